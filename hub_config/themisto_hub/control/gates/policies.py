"""Policies: gates that an endpoint's owners pin, so that every later release must pass them."""

from __future__ import annotations

from sqlalchemy.orm import Session

from themisto.errors import Conflict
from themisto.serving.gates import Quality
from themisto.serving.models import Endpoint
from themisto.types import new_ulid
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.gates.holdouts import holdout_row
from themisto_hub.control.gates.records import pinned
from themisto_hub.control.gates.tables import PolicyRow
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.guard import recorded_refusals, require_owner
from themisto_hub.control.serving.records import active_rollout, endpoint_row
from themisto_hub.control.serving.tables import EndpointRow

__all__ = ["Policies"]


class Policies:
    """Sets and removes them. What was pinned before stays readable: an approver sees what was loosened."""

    def __init__(self, control: Control, changes: Changes) -> None:
        self._control = control
        self._changes = changes

    def pin(self, caller: Caller, name: str, quality: Quality) -> Endpoint:
        """Every later release must pass these gates on this hold-out, beside its own.

        Raises NotFound (endpoint, hold-out), Refused, Conflict while a release is on its way: it is
        judged by what was pinned when it was posted.
        """
        return self._set(caller, name, quality)

    def unpin(self, caller: Caller, name: str) -> Endpoint:
        """Nothing is pinned any more. Raises what `pin` raises."""
        return self._set(caller, name, None)

    def _set(self, caller: Caller, name: str, quality: Quality | None) -> Endpoint:
        action = "gates.pin" if quality is not None else "gates.unpin"
        with recorded_refusals(self._control, caller, action, f"endpoint/{name}"), self._control.db.write() as session:
            endpoint = endpoint_row(session, name, lock=True)
            caller.require("deploy")
            require_owner(caller, endpoint)
            before = pinned(session, name)
            if before != quality:
                self._change(session, caller, endpoint, before=before, after=quality)
        return self._changes.tell(name)

    def _change(
        self, session: Session, caller: Caller, endpoint: EndpointRow, *, before: Quality | None, after: Quality | None
    ) -> None:
        busy = active_rollout(session, endpoint.name)
        if busy is not None:
            raise Conflict(
                f"{endpoint.name}@{busy.release} is on its way: what is pinned does not change under it.",
                f"First %deploy promote {endpoint.name} or %deploy rollback {endpoint.name}.",
            )
        if after is not None:
            holdout_row(session, after, endpoint.group_name)
        now = self._control.clock()
        stored = after.model_dump(mode="json") if after is not None else None
        session.add(PolicyRow(id=new_ulid(), endpoint=endpoint.name, quality=stored, by=caller.name, at=now))
        endpoint.updated_at = now
        self._control.audit.append(
            session,
            actor=caller.name,
            action="gates.pin" if after is not None else "gates.unpin",
            object=f"endpoint/{endpoint.name}",
            group=endpoint.group_name,
            before=before.model_dump(mode="json") if before is not None else None,
            after=stored,
            request_id=caller.request_id,
        )
