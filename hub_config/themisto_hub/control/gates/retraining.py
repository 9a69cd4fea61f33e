"""Retraining: a schedule that is run when a model has become too bad.

It starts the schedule's notebook, as its owner, and no more: what that deploys passes the same gates and,
in prod, waits for the same approval as anybody's release.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import NotFound, Refused
from themisto.serving.gates import Cause, Retraining, RetrainingRequest
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.gates.tables import RetrainingRow
from themisto_hub.control.schedules.service import new_job
from themisto_hub.control.schedules.tables import JobRow, ScheduleRow
from themisto_hub.control.serving.guard import may_see, recorded_refusals, require_owner
from themisto_hub.control.serving.moves import RECONCILER
from themisto_hub.control.serving.records import active_rollout, endpoint_row
from themisto_hub.control.serving.tables import EndpointRow

__all__ = ["Retrainings"]

_BUSY = ("queued", "starting", "running")


class Retrainings:
    """Which schedule an endpoint names, and starting it."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def get(self, caller: Caller, name: str) -> Retraining | None:
        """None where nothing is retrained by itself. Raises NotFound."""
        with self._control.db.read() as session:
            if not may_see(caller, endpoint_row(session, name).group_name):
                raise NotFound(f"There is no endpoint '{name}'.", "See the names: %deploy status.")
            row = session.get(RetrainingRow, name)
            return _model(row) if row is not None else None

    def set(self, caller: Caller, name: str, request: RetrainingRequest | None) -> Retraining | None:
        """Name the schedule; None: nothing is retrained by itself any more.

        Raises NotFound (endpoint, schedule), Refused where either is another group's.
        """
        action = "retraining.set" if request is not None else "retraining.off"
        with recorded_refusals(self._control, caller, action, f"endpoint/{name}"), self._control.db.write() as session:
            endpoint = endpoint_row(session, name, lock=True)
            caller.require("deploy")
            require_owner(caller, endpoint)
            row = session.get(RetrainingRow, name)
            before = _request(row).model_dump(mode="json") if row is not None else None
            if request is None:
                if row is not None:
                    session.delete(row)
            else:
                _require_schedule(session, request.schedule, endpoint)
                row = row or RetrainingRow(endpoint=name, last_says="")
                row.schedule, row.causes, row.cooldown_s = request.schedule, list(request.on), request.cooldown_s
                row.set_by, row.updated_at = caller.name, self._control.clock()
                session.add(row)
            session.flush()
            self._control.audit.append(
                session,
                actor=caller.name,
                action=action,
                object=f"endpoint/{name}",
                group=endpoint.group_name,
                before=before,
                after=request.model_dump(mode="json") if request is not None else None,
                request_id=caller.request_id,
            )
            return _model(row) if request is not None and row is not None else None

    def drifted(self, caller: Caller, name: str, reason: str) -> Retraining | None:
        """A monitor of the owning group says that the endpoint's inputs or answers have drifted.

        Recorded; where the endpoint names a schedule for it, that is started. Raises NotFound, Refused.
        """
        action = "endpoint.drifted"
        with recorded_refusals(self._control, caller, action, f"endpoint/{name}"), self._control.db.write() as session:
            endpoint = endpoint_row(session, name, lock=True)
            caller.require("deploy")
            require_owner(caller, endpoint)
            self._control.audit.append(
                session,
                actor=caller.name,
                action=action,
                object=f"endpoint/{name}",
                group=endpoint.group_name,
                after={"reason": reason},
                request_id=caller.request_id,
            )
            self.start(session, endpoint, "drift", f"drift: {reason}")
            row = session.get(RetrainingRow, name)
            return _model(row) if row is not None else None

    def start(self, session: Session, endpoint: EndpointRow, cause: Cause, why: str) -> None:
        """Run the schedule that the endpoint names for `cause`, inside the caller's transaction.

        At most once in its cool-down; not while it is paused, still runs, or a release is on its way. What
        came of it is in `last_says`.
        """
        row = session.get(RetrainingRow, endpoint.name)
        if row is None or cause not in row.causes:
            return
        now = self._control.clock()
        schedule = session.get(ScheduleRow, row.schedule)
        obstacle = _obstacle(session, endpoint, row, schedule, now)
        if obstacle or schedule is None:
            row.last_says = f"not started: {obstacle} ({why})"
            return
        job = new_job(schedule, due_at=now, now=now)
        job.message = f"retraining of {endpoint.name}: {why}"
        session.add(job)
        session.flush()
        row.last_job, row.last_at, row.last_says = job.id, now, f"started {schedule.name}: {why}"
        self._control.audit.append(
            session,
            actor=RECONCILER,
            action="schedule.run",
            object=f"schedule/{schedule.name}",
            group=schedule.group_name,
            after={"job": job.id, "as": schedule.owner, "endpoint": endpoint.name, "cause": cause, "because": why},
        )


def _obstacle(
    session: Session, endpoint: EndpointRow, row: RetrainingRow, schedule: ScheduleRow | None, now: datetime
) -> str | None:
    """Why it is not started now."""
    if schedule is None or schedule.group_name != endpoint.group_name:
        return f"there is no schedule '{row.schedule}' in {endpoint.group_name}"
    if schedule.paused_reason is not None:
        return f"'{row.schedule}' is paused: {schedule.paused_reason}"
    if row.last_at is not None and now - row.last_at < timedelta(seconds=row.cooldown_s):
        return f"it was started {row.last_at:%Y-%m-%d %H:%M} UTC and cools down for {row.cooldown_s / 3600:g} h"
    query = select(JobRow.id).where(JobRow.schedule == schedule.name, JobRow.state.in_(_BUSY)).limit(1)
    if session.scalars(query).first() is not None:
        return f"'{row.schedule}' is running"
    busy = active_rollout(session, endpoint.name)
    return f"{endpoint.name}@{busy.release} is on its way" if busy is not None else None


def _require_schedule(session: Session, name: str, endpoint: EndpointRow) -> None:
    row = session.get(ScheduleRow, name)
    if row is None:
        raise NotFound(f"There is no schedule '{name}'.", "Make it first: %schedule NOTEBOOK --cron …")
    if row.group_name != endpoint.group_name:
        raise Refused(
            f"The schedule '{name}' belongs to {row.group_name}, the endpoint to {endpoint.group_name}.",
            "Name a schedule of the endpoint's group.",
        )


def _request(row: RetrainingRow) -> RetrainingRequest:
    return RetrainingRequest.model_validate({"schedule": row.schedule, "on": row.causes, "cooldown_s": row.cooldown_s})


def _model(row: RetrainingRow) -> Retraining:
    return Retraining(
        **_request(row).model_dump(),
        set_by=row.set_by,
        last_job=row.last_job,
        last_at=row.last_at,
        last_says=row.last_says,
    )
