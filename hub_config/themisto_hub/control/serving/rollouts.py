"""Rollouts: the state machine that moves traffic to a release and back, one transaction a step.

    loading -> [waiting_approval -> loading ->] running -> done
       |             |                 |           |         |
       +-> failed    +-> refused       +-> failed  +---------+-> rolled_back

`running`: the candidate carries its weight beside stable; `steps` raises it as the analysis allows, or a person
does, where the rollout is by hand (`manual`).
`done`: its release is stable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from themisto.errors import Conflict, NotFound, Refused
from themisto.serving.models import Endpoint
from themisto.serving.rollout import ACTIVE, Rollout
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.guard import may_see, recorded_refusals, require_owner
from themisto_hub.control.serving.moves import (
    end_rollout,
    is_last_step,
    make_stable,
    next_share,
    return_to_previous,
)
from themisto_hub.control.serving.records import (
    active_rollout,
    endpoint_model,
    endpoint_row,
    rollout_model,
    rollout_row,
)
from themisto_hub.control.serving.tables import EndpointRow, RolloutRow

__all__ = ["Rollouts"]


class Rollouts:
    """What people ask of a rollout. What the reconciler does is in `progress`."""

    def __init__(self, control: Control, changes: Changes) -> None:
        self._control = control
        self._changes = changes

    def get(self, caller: Caller, endpoint: str, rollout_id: str) -> Rollout:
        """Raises NotFound."""
        with self._control.db.read() as session:
            row = rollout_row(session, rollout_id, endpoint=endpoint)
            if not may_see(caller, endpoint_row(session, endpoint).group_name):
                raise NotFound(f"There is no rollout {rollout_id}.", "See the latest one: %deploy status.")
            return rollout_model(session, self._control.settings, row)

    def promote(self, caller: Caller, name: str, rollout_id: str) -> Endpoint:
        """The candidate becomes stable with all traffic; the old stable stays loaded to go back to.

        Raises Refused, NotFound, Conflict when the rollout is not running.
        """
        with self._changing(caller, name, "rollout.promote") as (session, endpoint):
            row = rollout_row(session, rollout_id, endpoint=name)
            if row.state == "done" and endpoint.stable == row.release:
                return endpoint_model(session, self._control.settings, endpoint)
            _require_running(row, "promoted")
            before = _traffic(endpoint)
            make_stable(self._control, endpoint, row, f"promoted by {caller.name}")
            self._audit(session, caller, "rollout.promote", endpoint=endpoint, row=row, before=before)
        return self._changes.tell(name)

    def step(self, caller: Caller, name: str, rollout_id: str, *, to: int) -> Endpoint:
        """The share `steps[to]`, which must be the next one, by hand; the last makes the candidate stable.

        Whoever asks says which step she means: asked twice, or while the analysis took it, it is one step.
        Raises Refused, NotFound, Conflict where no step is to be taken or another one is next.
        """
        with self._changing(caller, name, "rollout.step") as (session, endpoint):
            row = rollout_row(session, rollout_id, endpoint=name)
            taken = row.state in ("running", "done") and 0 < to == row.step
            if not taken:
                _require_steps(row)
                if to != row.step + 1:
                    raise Conflict(
                        f"{name}@{row.release} is at step {row.step + 1}, {row.weight_pct} %, by now.",
                        f"Look again, then take the next one: %deploy step {name}.",
                    )
                before, action = _traffic(endpoint), "rollout.promote" if is_last_step(row) else "rollout.step"
                next_share(self._control, endpoint, row, f"step after {row.weight_pct} % taken by {caller.name}")
                self._audit(session, caller, action, endpoint=endpoint, row=row, before=before)
        return self._changes.tell(name)

    def pause(self, caller: Caller, name: str, rollout_id: str, *, reason: str = "") -> Endpoint:
        """From now on only a person takes the steps; a breach still goes back by itself.

        Raises Refused, NotFound, Conflict where the rollout takes no steps.
        """
        why = f"paused by {caller.name}" + (f": {reason}" if reason else "")
        return self._by_hand(caller, name, rollout_id, manual=True, message=why, reason=reason)

    def resume(self, caller: Caller, name: str, rollout_id: str) -> Endpoint:
        """The analysis takes the steps again, or from now on where they were by hand. Raises what `pause` raises."""
        return self._by_hand(caller, name, rollout_id, manual=False, message=f"resumed by {caller.name}")

    def _by_hand(
        self, caller: Caller, name: str, rollout_id: str, *, manual: bool, message: str, reason: str = ""
    ) -> Endpoint:
        action = "rollout.pause" if manual else "rollout.resume"
        with self._changing(caller, name, action) as (session, endpoint):
            row = rollout_row(session, rollout_id, endpoint=name)
            _require_steps(row)
            if row.manual != manual:
                before = _traffic(endpoint) | {"manual": row.manual}
                row.manual, row.stage, row.message = manual, "traffic", message
                row.updated_at = self._control.clock()
                self._audit(session, caller, action, endpoint=endpoint, row=row, before=before, reason=reason)
        return self._changes.tell(name)

    def rollback_target(self, name: str) -> int | None:
        """The release that `rollback` would bring back from stable; None when it would only end a rollout."""
        with self._control.db.read() as session:
            endpoint = endpoint_row(session, name)
            return None if active_rollout(session, name) else endpoint.previous

    def rollback(self, caller: Caller, name: str, *, reason: str = "", as_operator: bool = False) -> Endpoint:
        """End the rollout on its way; without one, bring the whole earlier release back.

        Raises Refused, NotFound, Conflict when there is nothing to go back to.
        """
        why = f"rolled back by {caller.name}" + (f": {reason}" if reason else "")
        with self._changing(caller, name, "rollout.rollback", as_operator=as_operator) as (session, endpoint):
            before = _traffic(endpoint)
            row = active_rollout(session, name)
            if row is None:
                row = return_to_previous(self._control, session, endpoint, why)
            else:
                end_rollout(self._control, endpoint, row, "rolled_back", why)
            self._audit(session, caller, "rollout.rollback", endpoint=endpoint, row=row, before=before, reason=reason)
        return self._changes.tell(name)

    def retire(self, caller: Caller, name: str, *, reason: str = "") -> Endpoint:
        """Nothing answers under the name any more; it stays the group's, its releases and their history stay."""
        with self._changing(caller, name, "endpoint.retire") as (session, endpoint):
            before = _traffic(endpoint)
            row = active_rollout(session, name)
            if row is not None:
                end_rollout(self._control, endpoint, row, "rolled_back", f"endpoint retired by {caller.name}")
            endpoint.stable = endpoint.previous = None
            endpoint.retired = True
            endpoint.retired_at = endpoint.updated_at = self._control.clock()
            self._audit(session, caller, "endpoint.retire", endpoint=endpoint, row=row, before=before, reason=reason)
        return self._changes.tell(name)

    def refuse_approval(self, caller: Caller, name: str, rollout_id: str) -> None:
        """The API never approves, whatever the token: always raises Refused, always recorded."""
        with recorded_refusals(self._control, caller, "rollout.approve", f"rollout/{rollout_id}"[:300]):
            page = f"{self._control.settings.review_url}/"
            raise Refused(f"No token can approve {name}.", f"Another person approves on the review page: {page}")

    @contextmanager
    def _changing(
        self, caller: Caller, name: str, action: str, *, as_operator: bool = False
    ) -> Iterator[tuple[Session, EndpointRow]]:
        """One write by a member of the owning group (or the operator); refusals are recorded."""
        with (
            recorded_refusals(self._control, caller, action, f"endpoint/{name}"),
            self._control.db.write() as session,
        ):
            endpoint = endpoint_row(session, name, lock=True)
            if not as_operator:
                caller.require("deploy")
                require_owner(caller, endpoint)
            yield session, endpoint

    def _audit(
        self,
        session: Session,
        caller: Caller,
        action: str,
        *,
        endpoint: EndpointRow,
        row: RolloutRow | None,
        before: dict[str, object],
        reason: str = "",
    ) -> None:
        after = _traffic(endpoint) | ({"rollout": row.id, "release": row.release, "manual": row.manual} if row else {})
        self._control.audit.append(
            session,
            actor=caller.name,
            action=action,
            object=f"endpoint/{endpoint.name}",
            group=endpoint.group_name,
            before=before,
            after=after | ({"reason": reason} if reason else {}),
            request_id=caller.request_id,
        )


def _require_running(row: RolloutRow, what: str) -> None:
    if row.state not in ACTIVE:
        why = f": {row.message.rstrip('.')}" if row.message and row.state != "done" else ""
        raise Conflict(
            f"{row.endpoint} has no rollout under way: that of release {row.release} is {_said(row.state)}{why}.",
            f"Deploy the next release with %%deploy {row.endpoint}, or see %deploy status {row.endpoint}.",
        )
    if row.state != "running":
        raise Conflict(
            f"{row.endpoint}@{row.release} cannot be {what}: it is {_said(row.state)}.",
            row.message or f"See %deploy status {row.endpoint}.",
        )


def _said(state: str) -> str:
    return state.replace("_", " ")


def _require_steps(row: RolloutRow) -> None:
    """A rollout that moves by steps and is at one of them; the others move as a whole."""
    _require_running(row, "moved by steps")
    if not row.steps:
        raise Conflict(
            f"{row.endpoint}@{row.release} takes no steps: its rollout is by {row.strategy}.",
            f"%deploy promote {row.endpoint} gives it all traffic, %deploy rollback {row.endpoint} none.",
        )


def _traffic(endpoint: EndpointRow) -> dict[str, object]:
    return {
        "stable": endpoint.stable,
        "candidate": endpoint.candidate,
        "weight_pct": endpoint.weight_pct,
        "previous": endpoint.previous,
    }
