"""How to reach a Cassandra: what the URL of the online store says, with its password kept out of sight."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import Field, PositiveFloat, SecretStr, ValidationError

from themisto.errors import Invalid, MissingSetting
from themisto.types import Model

__all__ = ["AT_ONCE", "CassandraSettings"]

AT_ONCE = 100
"""Keys in one IN, and partitions in one request."""

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")
_OPTIONS = frozenset({"dc", "consistency", "tls", "ca", "cert", "key", "password_file", "speculative_ms", "timeout_s"})


class CassandraSettings(Model):
    """`cassandra://user@h1,h2:9042/keyspace?dc=dc1&tls=true&ca=/etc/ca.pem&password_file=/run/secrets/cassandra`.

    dc: the data centre whose nodes are asked; without it, all.
    tls, ca, cert, key: encrypt; trust these authorities (default: the system's); show this certificate.
    speculative_ms: a read without an answer after so long is asked of another node too; 0: as late as a write, which is
        after a quarter of timeout_s.
    timeout_s: the one deadline of a request, with all its attempts.
    """

    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    keyspace: Annotated[str, Field(pattern=f"^{_IDENTIFIER.pattern}$")]
    port: Annotated[int, Field(ge=1, le=65535)] = 9042
    dc: str | None = None
    consistency: Literal["ONE", "LOCAL_ONE", "LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL"] = "LOCAL_QUORUM"
    user: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    speculative_ms: Annotated[int, Field(ge=0, le=10_000)] = 20
    timeout_s: PositiveFloat = 10.0

    @classmethod
    def from_url(cls, url: str) -> CassandraSettings:
        """Raises Invalid; its text names options, never values, for one may be a secret."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise Invalid(
                f"The URL of the online store has {', '.join(unknown)}.", f"It takes {', '.join(sorted(_OPTIONS))}."
            )
        file = options.pop("password_file", None)
        login, _, _ = parts.netloc.rpartition("@")
        user, _, password = (unquote(word) for word in login.partition(":"))
        if file is not None:
            password = _secret(Path(file))
        try:
            found = cls.model_validate(
                {
                    **_addresses(parts),
                    **options,
                    "keyspace": parts.path.strip("/"),
                    "user": user or None,
                    "password": SecretStr(password) if password else None,
                }
            )
        except ValidationError as error:
            names = sorted({str(e["loc"][0]) for e in error.errors(include_input=False)})
            raise Invalid(
                f"The URL of the online store has no usable {', '.join(names)}.", "See cassandra://host/keyspace?dc=…."
            ) from None
        if (found.ca or found.cert or found.key) and not found.tls:
            raise Invalid("The online store has certificates, but no TLS.", "Add tls=true to its URL.")
        if (found.user is None) != (found.password is None):
            raise Invalid("The online store has a user without a password, or the reverse.", "Name both.")
        return found


def _addresses(parts: SplitResult) -> dict[str, object]:
    names = [h.partition(":") for h in parts.netloc.rpartition("@")[2].split(",")]
    hosts = tuple(n[0] for n in names)
    ports = {n[2] or "9042" for n in names}
    if not all(hosts):
        raise Invalid("The URL of the online store has no host.", "See cassandra://host/keyspace?dc=….")
    if len(ports) != 1:
        named = {n[2] for n in names if n[2]}
        if len(named) != 1:
            raise Invalid("The hosts of the online store have several ports.", "Cassandra's nodes share one port.")
        ports = named  # `h1,h2:9042`: the one port is everybody's
    return {"hosts": hosts, "port": ports.pop()}


def _secret(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise MissingSetting(
            f"The online store's password file cannot be read: {error.strerror}.", "See password_file in its URL."
        ) from None
