"""Refusals leave a trace: what a caller may not do is refused and recorded in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from themisto.errors import Refused
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.tables import EndpointRow

__all__ = ["may_see", "recorded_refusals", "require_owner", "sees_all"]

_SEES_ALL = frozenset({"admin", "approve", "audit"})


@contextmanager
def recorded_refusals(control: Control, caller: Caller, action: str, object: str) -> Iterator[None]:
    """A Refused that leaves the block is one audit event, in a transaction of its own."""
    try:
        yield
    except Refused as error:
        with control.db.write() as session:
            control.audit.append(
                session,
                actor=caller.name,
                action=action,
                object=object,
                outcome="refused",
                after={"reason": error.detail},
                request_id=caller.request_id,
            )
        raise


def require_owner(caller: Caller, endpoint: EndpointRow) -> None:
    """Raises Refused unless the endpoint belongs to one of the caller's groups."""
    if endpoint.group_name not in caller.groups:
        raise Refused(
            f"The endpoint '{endpoint.name}' belongs to the group '{endpoint.group_name}'.",
            f"{caller.name} is not in it: choose another name, or ask that group.",
        )


def may_see(caller: Caller, group: str) -> bool:
    """Members see their group's endpoints; approvers, auditors and admins see all."""
    return group in caller.groups or sees_all(caller)


def sees_all(caller: Caller) -> bool:
    """Approvers, auditors and admins."""
    return bool(_SEES_ALL & caller.scopes)
