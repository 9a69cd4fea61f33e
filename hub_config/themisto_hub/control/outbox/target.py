"""Target: where events go, as the operator's settings say it; its address is a secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import socket
from functools import cached_property
from typing import Self
from urllib.parse import SplitResult, urlsplit

from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict, SettingsError

from themisto.errors import Invalid
from themisto.settings import FileSettings
from themisto.types import Model, Slug
from themisto_hub.control.outbox.event import KINDS, Event
from themisto_hub.settings import SETTINGS_FILE

__all__ = ["EventSettings", "Target", "addresses", "configured"]

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets of Standard Webhooks begin with
_UNSIGNED = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
_HERE = frozenset({"dbus", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"})
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_MAX_TARGETS = 32


class Target(Model):
    """One address and what it is told.

    `https://…` (or `http://` on loopback) is a webhook of one's own: signed, so it needs a secret.
    Everything else is an address as apprise writes it: `mailto://…`, `slack://…`, `msteams://…`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    url: SecretStr
    events: tuple[str, ...] = ("*",)
    """Kinds; `rollout.*` is all of a rollout's, `*` all there are."""
    groups: tuple[Slug, ...] = ()
    """Only events about these groups; none: about any."""
    secret: SecretStr | None = None
    """Of a webhook: `whsec_` and the base64 of 24 to 64 random bytes (standardwebhooks.com)."""

    @field_validator("events")
    @classmethod
    def _known(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            if pattern != "*" and not any(_matches(pattern, kind) for kind in KINDS):
                msg = f"there is no event '{pattern}'; there are {', '.join(KINDS)}"
                raise ValueError(msg)
        return patterns

    @model_validator(mode="after")
    def _can_be_sent_to(self) -> Self:
        scheme, host = self.parts.scheme, self.parts.hostname or ""
        if not scheme:
            _refuse("an address begins with its scheme, for example https:// or mailto://")
        if scheme in _UNSIGNED:
            _refuse(f"{scheme}:// is not signed: write https://, with a secret")
        if scheme in _HERE:
            _refuse(f"{scheme}:// would tell this machine only")
        if self.is_webhook:
            if self.parts.username or not host:
                _refuse("a webhook is https://host/path, without a user in it")
            if self.secret is None or not 24 <= len(_key(self.secret)) <= 64:
                _refuse(f"a webhook needs a secret: {SECRET_PREFIX} and the base64 of 24 to 64 random bytes")
            if scheme == "http" and not _is_loopback(host):
                _refuse("http:// is for this machine only: write https://")
        address = _literal(host)
        if address is not None and _is_forbidden(address):
            _refuse("link-local and metadata addresses are never written to")
        return self

    @cached_property
    def parts(self) -> SplitResult:
        return urlsplit(self.url.get_secret_value())

    @property
    def is_webhook(self) -> bool:
        return self.parts.scheme in ("http", "https")

    @cached_property
    def key(self) -> str:
        """What the database knows it by."""
        return hashlib.sha256(self.url.get_secret_value().encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """What people are shown: never a path, a user or a token."""
        return f"{self.parts.scheme}://{self.parts.hostname}" if self.is_webhook else f"{self.parts.scheme}://…"

    @property
    def signing_key(self) -> bytes:
        return _key(self.secret) if self.secret else b""

    def wants(self, event: Event) -> bool:
        return any(_matches(p, event.kind) for p in self.events) and (not self.groups or event.group in self.groups)


class EventSettings(FileSettings):
    """`THEMISTO_KEY_EVENTS` (JSON) or `[[events]]` in the settings file; only the control plane is given it."""

    model_config = SettingsConfigDict(env_prefix="THEMISTO_KEY_", hide_input_in_errors=True, toml_file=[SETTINGS_FILE])

    events: tuple[Target, ...] = Field((), description="where events are sent", max_length=_MAX_TARGETS)


def configured() -> tuple[Target, ...]:
    """The targets of this workbench. Raises Invalid, naming the field and no value."""
    try:
        return EventSettings().events
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"The setting {where} is wrong: {first['msg']}.", "Correct THEMISTO_KEY_EVENTS.") from None
    except SettingsError:
        raise Invalid(
            "The setting THEMISTO_KEY_EVENTS is no JSON.", 'Write [{"url": "https://…", "secret": "whsec_…"}].'
        ) from None


def addresses(target: Target) -> list[str]:
    """Where a webhook's host is now, one address a line of its DNS.

    Raises ValueError where one of them must not be written to, OSError where there is none.
    """
    host, port = target.parts.hostname or "", target.parts.port or (443 if target.parts.scheme == "https" else 80)
    found = list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    for text in found:
        address = ipaddress.ip_address(text)
        if _is_forbidden(address):
            _refuse("its name leads to a link-local or metadata address")
        if target.parts.scheme == "http" and not address.is_loopback:
            _refuse("its name leads away from this machine, and http:// stays here")
    return found


def _matches(pattern: str, kind: str) -> bool:
    return pattern in ("*", kind) or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))


def _refuse(why: str) -> None:
    raise ValueError(why)


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _literal(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA


def _key(secret: SecretStr) -> bytes:
    text = secret.get_secret_value()
    try:
        return (
            base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True) if text.startswith(SECRET_PREFIX) else b""
        )
    except binascii.Error:
        return b""
