"""Routes: which endpoint's requests go to which releases, in what shares. Written for Envoy as files.

The control plane calls `write`; Envoy and the transformer watch the folder and go on without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from themisto.serving.names import ENDPOINT_PATTERN, EndpointName
from themisto.types import Model, Slug
from themisto_hub.gateway.addresses import Address
from themisto_hub.gateway.fallback import DefaultAnswer, StandIn
from themisto_hub.gateway.put import put
from themisto_hub.gateway.taken import WATCHED, version_taken, wait_until_taken

__all__ = ["FILES", "Issuer", "Route", "RouteTable", "Target", "write"]

FILES = ("cds.json", "jwt.json", "deny.json", "rates.json", "rds.json")
"""What Envoy reads, in the order in which it must appear: clusters before the routes that name them."""

ReleaseName = Annotated[str, StringConstraints(pattern=f"^{ENDPOINT_PATTERN}--[1-9][0-9]{{0,8}}$")]
"""Triton's name of a release: `credit--7`, `credit.v2--1`."""

InputName = Annotated[str, StringConstraints(pattern=r"^[^\"\\\x00-\x1f]{1,200}$")]


class Target(Model):
    """One release behind an endpoint and where it answers."""

    release: ReleaseName
    weight_pct: Annotated[int, Field(ge=0, le=100)]
    http: Address
    grpc: Address
    shadow: bool = False
    """Gets a copy of every request; its answers go to the prediction log only. Its weight is 0."""
    feature_service: str | None = None
    """The service version that this release reads; default: the route's."""
    feature_group: Slug | None = None
    """Whose service it is; default: the route's group. Another one after a transfer."""
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] = 512
    """Requests on their way to it at one time; what is over is answered 503 at once."""
    fallbacks: tuple[StandIn, ...] = ()
    default: DefaultAnswer | None = None
    fallback_after_ms: Annotated[int, Field(ge=1)] | None = None
    """How long each of its answers may take before the next one is asked; None: until the deadline."""

    @property
    def falls_back(self) -> bool:
        return bool(self.fallbacks or self.default)

    @property
    def title(self) -> str:
        """As people write it and `x-release` says it: `credit@7`."""
        endpoint, _, number = self.release.rpartition("--")
        return f"{endpoint}@{number}"


class Route(Model):
    """One endpoint: who may call it, which releases share its requests."""

    name: EndpointName
    group: Slug
    tier: Literal["dev", "prod"]
    feature_service: str | None = None
    feature_names: tuple[InputName, ...] = ()
    """Inputs that the gateway looks up when a request names none of them."""
    keys: tuple[InputName, ...] = ()
    rate_per_s: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests a second, all callers and ways in together; None: only what one caller may."""
    releases: Annotated[tuple[Target, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _shares_are_whole(self) -> Self:
        total = sum(t.weight_pct for t in self.releases if not t.shadow)
        if total != 100:
            msg = f"the weights of '{self.name}' add up to {total}, not 100"
            raise ValueError(msg)
        if any(t.weight_pct for t in self.releases if t.shadow):
            msg = f"a shadow release of '{self.name}' has a weight"
            raise ValueError(msg)
        names = [t.release for t in self.releases]
        if len(set(names)) != len(names) or any(n.rpartition("--")[0] != self.name for n in names):
            msg = f"the releases of '{self.name}' are {names}"
            raise ValueError(msg)
        return self

    @property
    def looks_up(self) -> bool:
        """True if a request may give entity keys alone."""
        return bool(self.feature_service and self.feature_names)


class Issuer(Model):
    """Who signs tokens that the gateway accepts, beside the control plane: machines' identity provider."""

    issuer: Annotated[str, Field(min_length=1, max_length=500)]
    jwks: Mapping[str, Any]
    audience: str = "themisto"


class RouteTable(Model):
    """All that Envoy must know; the same table renders to the same files."""

    endpoints: tuple[Route, ...] = ()
    jwks: Mapping[str, Any] = {"keys": []}
    """Keys of the control plane (RFC 7517)."""
    issuers: tuple[str | Issuer, ...] = ()
    """A plain string is an issuer whose keys are `jwks`."""
    denied_jti: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    transformer_http: Address = "127.0.0.1:8009"
    transformer_grpc: Address = "127.0.0.1:8010"
    infer_keys: Mapping[Address, SecretStr] = {}
    """What the model server at an address asks for; Envoy adds it, callers never learn it."""
    default_key: SecretStr | None = None
    """What the transformer asks for before it gives a declared default."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [route.name for route in self.endpoints]
        if len(set(names)) != len(names):
            msg = "an endpoint is in the table twice"
            raise ValueError(msg)
        for issuer in self.all_issuers:
            _check_keys(issuer)
        return self

    @property
    def all_issuers(self) -> tuple[Issuer, ...]:
        return tuple(i if isinstance(i, Issuer) else Issuer(issuer=i, jwks=self.jwks) for i in self.issuers)


def write(table: RouteTable, folder: Path, status_url: str | None = None) -> None:
    """Put the table in place for Envoy and the transformer: each file by rename, an error leaves the last good set.

    No request falls between two files: clusters and releases that the routes in force still name are kept
    until the next write, and routes that name new ones wait until Envoy has taken these, which the page at
    `status_url` tells; so does the return, until it has taken the routes. Raises OSError.
    """
    from themisto_hub.gateway.feature_table import with_releases_in_use, write_table
    from themisto_hub.gateway.render import feature_table, render

    files = render(table)
    files["cds.json"] = _with_clusters_in_use(files["cds.json"], folder)
    for name in WATCHED:
        files[name]["version_info"] = hashlib.sha256(json.dumps(files[name]).encode()).hexdigest()[:16]
    texts = {name: json.dumps(files[name], indent=1, sort_keys=True) for name in FILES}
    write_table(with_releases_in_use(feature_table(table), folder), folder)
    before = {name: version_taken(status_url, name) for name in WATCHED} if status_url else {}
    for name, text in texts.items():
        changed, taken = put(folder / name, text), before.get(name)
        if changed and status_url and taken is not None:
            wait_until_taken(status_url, name, taken)


def _with_clusters_in_use(rendered: dict[str, Any], folder: Path) -> dict[str, Any]:
    try:
        old = json.loads((folder / "cds.json").read_text())["resources"]
        routes = (folder / "rds.json").read_text()
    except (OSError, ValueError, KeyError):
        return rendered
    known = {cluster["name"] for cluster in rendered["resources"]}
    kept = [c for c in old if c["name"] not in known and json.dumps(c["name"]) in routes]
    return {**rendered, "resources": [*rendered["resources"], *kept]}


def _check_keys(issuer: Issuer) -> None:
    """A key that Envoy cannot read would stop its next start: refuse it here."""
    import jwt

    try:
        keys = jwt.PyJWKSet.from_dict(dict(issuer.jwks)).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        msg = f"the keys of {issuer.issuer} cannot be read: {error}"
        raise ValueError(msg) from None
    if any(key.key_type not in ("RSA", "EC") for key in keys):
        msg = f"the keys of {issuer.issuer} must be RSA or EC"
        raise ValueError(msg)
