"""Who asks: the caller's token, verified here again.

Envoy has verified it already, but this process listens on a port that every user of the machine can
reach, so a header that Envoy would have set proves nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from themisto.errors import Refused, Unauthenticated
from themisto.types import Model

__all__ = ["Callers", "GatewayCaller", "Trusted"]

_CACHED = 4096


class Trusted(Model):
    """Whose tokens count, and the keys to know them by (RFC 7517)."""

    issuer: str
    jwks: dict[str, Any]
    audience: str = "themisto"


@dataclass(frozen=True, slots=True)
class GatewayCaller:
    """A caller that a trusted issuer vouches for."""

    name: str
    groups: tuple[str, ...]
    scopes: frozenset[str]
    endpoints: frozenset[str]
    """Machines' tokens list the endpoints they may call."""
    jti: str
    until_s: float

    def require(self, scope: str) -> None:
        """Raises Refused."""
        if scope not in self.scopes:
            raise Refused(f"{self.name} may not {scope.replace(':', ' ')}.", f"Ask for the scope {scope}.")

    def require_endpoint(self, endpoint: str, group: str) -> None:
        """As Envoy's rule: members of the group with the scope, or machines that name the endpoint."""
        if endpoint not in self.endpoints and not (group in self.groups and "infer" in self.scopes):
            raise Refused(f"{self.name} may not call '{endpoint}'.", f"It belongs to the group '{group}'.")


class Callers:
    """Verifies bearer tokens (RS256 or ES256); what was verified is kept until it ends."""

    def __init__(
        self, denied: Callable[[], frozenset[str]] = frozenset, clock: Callable[[], float] = time.time
    ) -> None:
        self._denied = denied
        self._clock = clock
        self._known: OrderedDict[str, GatewayCaller] = OrderedDict()
        self._trusted: dict[str, tuple[Trusted, dict[str, Any]]] = {}

    def use(self, trusted: Iterable[Trusted]) -> None:
        """From now on these issuers; tokens are verified anew."""
        import jwt

        self._trusted = {
            t.issuer: (t, {key.key_id or "": key for key in jwt.PyJWKSet.from_dict(t.jwks).keys})
            for t in trusted
            if t.jwks.get("keys")
        }
        self._known.clear()

    def of(self, authorization: str) -> GatewayCaller:
        """The caller behind an Authorization header. Raises Unauthenticated."""
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Unauthenticated("This needs a token.", "Send 'Authorization: Bearer …' from POST /tokens.")
        caller = self._known.get(token) or self._verify(token)
        if caller.until_s <= self._clock() or caller.jti in self._denied():
            raise Unauthenticated("The token has ended or was revoked.", "Get a new one from POST /tokens.")
        return caller

    def _verify(self, token: str) -> GatewayCaller:
        import jwt

        try:
            unverified = jwt.decode(token, options={"verify_signature": False})
            trusted, keys = self._trusted[unverified["iss"]]
            claims = jwt.decode(
                token,
                keys[jwt.get_unverified_header(token).get("kid", "")],
                algorithms=["RS256", "ES256"],
                audience=trusted.audience,
                issuer=trusted.issuer,
                options={"require": ["exp", "sub"]},
            )
        except (jwt.PyJWTError, KeyError, TypeError) as error:
            raise Unauthenticated("The token is not valid.", "Get a new one from POST /tokens.") from error
        caller = GatewayCaller(
            name=str(claims["sub"]),
            groups=tuple(claims.get("groups") or ()),
            scopes=frozenset(claims.get("scopes") or ()),
            endpoints=frozenset(claims.get("endpoints") or ()),
            jti=str(claims.get("jti", "")),
            until_s=float(claims["exp"]),
        )
        self._known[token] = caller
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return caller
