"""Who calls, and what the caller may do: hub identities and custom scopes, checked by every handler."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader
from pydantic import SecretStr

from themisto.errors import Refused, Unauthenticated
from themisto.types import Model
from themisto_hub.control.context import Control, get_control

__all__ = ["SCOPE_PREFIX", "Authorization", "Caller", "OperatorKey", "anyone", "is_key", "needs"]

SCOPE_PREFIX = "custom:themisto:"
_OWN_SERVER = "access:servers!server="

# In the document these are what opens a route, not one of its arguments.
Authorization = Annotated[
    str | None,
    Depends(APIKeyHeader(name="Authorization", scheme_name="hub", description="token <hub token>", auto_error=False)),
]
OperatorKey = Annotated[
    str | None,
    Depends(APIKeyHeader(name="x-operator-key", scheme_name="operator", auto_error=False)),
]


class Caller(Model):
    """A person (or a service acting as one) that the hub vouches for."""

    name: str
    groups: tuple[str, ...]
    scopes: frozenset[str]
    server: str | None = None
    """Name of the server whose own token this is ('' for the default server), else None."""
    request_id: str = ""

    def require(self, scope: str) -> None:
        """Raises Refused unless the token carries `custom:themisto:<scope>`."""
        if scope not in self.scopes:
            if scope == "admin":
                raise Refused(
                    f"{self.name} may not run the platform with this token; no notebook's token may.",
                    "An admin makes one on the hub's page /hub/token and sets THEMISTO_TOKEN to it.",
                )
            raise Refused(
                f"{self.name} may not {scope.replace(':', ' ')}.",
                f"Ask for a group that carries the scope {SCOPE_PREFIX}{scope}.",
            )

    def require_group(self, group: str) -> None:
        """Raises Refused unless the caller is a member."""
        if group not in self.groups:
            raise Refused(f"{self.name} is not in the group '{group}'.", "Use a group of yours: %themisto whoami.")


def anyone(
    request: Request,
    control: Annotated[Control, Depends(get_control)],
    authorization: Authorization = None,
) -> Caller:
    """Dependency: whoever the hub vouches for. Raises Unauthenticated."""
    kind, _, token = (authorization or "").partition(" ")
    if kind.lower() not in ("token", "bearer") or not token.strip():
        raise Unauthenticated("This needs a hub token.", "Send 'Authorization: token …'.")
    return _caller(control.hub.identify(token.strip()), getattr(request.state, "request_id", ""))


def _caller(model: dict[str, Any], request_id: str) -> Caller:
    scopes: list[str] = model.get("scopes") or []
    server = next((s.partition("/")[2] for s in scopes if s.startswith(_OWN_SERVER)), None)
    return Caller(
        name=model["name"],
        groups=tuple(sorted(model.get("groups") or [])),
        scopes=frozenset(s.removeprefix(SCOPE_PREFIX) for s in scopes if s.startswith(SCOPE_PREFIX)),
        server=server,
        request_id=request_id,
    )


def needs(scope: str) -> Callable[..., Caller]:
    """Dependency: a caller with `custom:themisto:<scope>`. A refusal is one audit event."""

    def dependency(
        request: Request,
        control: Annotated[Control, Depends(get_control)],
        caller: Annotated[Caller, Depends(anyone)],
    ) -> Caller:
        try:
            caller.require(scope)
        except Refused:
            with control.db.write() as session:
                control.audit.append(
                    session,
                    actor=caller.name,
                    action=f"{request.method} {request.scope['route'].path}"[:100],
                    object=request.url.path[:300],
                    outcome="refused",
                    after={"needs": scope},
                    request_id=caller.request_id,
                )
            raise
        return caller

    dependency.__name__ = f"needs_{scope.replace(':', '_')}"
    return dependency


def is_key(given: str | None, expected: SecretStr | None) -> bool:
    """Whether `given` is the key; one that is not set, or empty, opens nothing."""
    key = expected.get_secret_value() if expected else ""
    return bool(key) and hmac.compare_digest(key.encode(), (given or "").encode())
