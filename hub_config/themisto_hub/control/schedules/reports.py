"""What a job's own server may do: learn its task, fetch its snapshot, leave outputs and report.

The server's own token says which job it is; a server that runs no job of ours, or no longer does, is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import NotFound, Refused
from themisto.schedules.models import JobReport, JobTask
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.schedules.files import Files
from themisto_hub.control.schedules.records import request_of
from themisto_hub.control.schedules.tables import JobRow, ScheduleRow, ServerRow

__all__ = ["Reports", "end_try", "pause"]

_PAUSE = timedelta(seconds=10)
_MOST_PAUSE = timedelta(minutes=5)


class Reports:
    """The job side of the control plane."""

    def __init__(self, control: Control, files: Files) -> None:
        self._control = control
        self._files = files

    def mine(self, caller: Caller) -> JobTask:
        """The task of the server that asks; from here on its job is running.

        Raises NotFound where it has none, Refused where its owner may schedule no more.
        """
        with self._control.db.write() as session:
            row = self._of(session, caller)
            allowed = "schedule" in caller.scopes and row.group_name in caller.groups
            if not allowed:
                reason = f"{row.owner} may not schedule for {row.group_name} any more"
                pause(self._control, session, row, reason)
                end_try(self._control, session, row, "failed", reason, final=True)
            elif row.state == "starting":
                row.state, row.started_at, row.message = "running", self._control.clock(), ""
                row.held_until = row.call_by = None
                self._control.events.publish("job", {"id": row.id, "schedule": row.schedule}, row.group_name)
        if not allowed:
            raise Refused(f"{reason}.", "Ask for the scope schedule, then resume the schedule.")
        request = request_of(row)
        return JobTask(
            id=row.id,
            schedule=row.schedule,
            attempt=row.attempt,
            notebook=request.notebook,
            parameters=request.parameters,
            snapshot_sha256=row.snapshot_sha256,
        )

    def snapshot(self, caller: Caller, job: str) -> Path:
        """The zip of the notebook and its files."""
        with self._control.db.read() as session:
            return self._files.snapshot(self._of(session, caller, job).snapshot_sha256)

    async def put_output(self, caller: Caller, job: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep a file the job leaves."""
        from fastapi.concurrency import run_in_threadpool

        await run_in_threadpool(self._check, caller, job)
        await self._files.put_output(job, name, chunks)
        await run_in_threadpool(self._keep, caller, job, name)

    def report(self, caller: Caller, job: str, report: JobReport) -> None:
        """How the try went. A failed one is queued again while tries are left; its server is stopped."""
        with self._control.db.write() as session:
            row = self._of(session, caller, job)
            row.result = report.model_dump(mode="json")
            end_try(self._control, session, row, report.state, report.error)

    def _check(self, caller: Caller, job: str) -> None:
        with self._control.db.read() as session:
            self._of(session, caller, job)

    def _keep(self, caller: Caller, job: str, name: str) -> None:
        with self._control.db.write() as session:
            row = self._of(session, caller, job)
            row.outputs = sorted({*row.outputs, name})

    @staticmethod
    def _of(session: Session, caller: Caller, job: str | None = None) -> JobRow:
        """The job that the calling server runs. Raises NotFound for any other."""
        row = None
        if caller.server:
            query = select(JobRow).where(JobRow.server == caller.server, JobRow.owner == caller.name)
            row = session.scalars(query.with_for_update()).first()
        if row is None or (job is not None and row.id != job) or row.state not in ("starting", "running"):
            raise NotFound("This server runs no such job.", "Only a job's own server may ask for it.")
        return row


def end_try(
    control: Control, session: Session, row: JobRow, how: str, reason: str = "", *, final: bool = False
) -> None:
    """End the try that `row` is at: succeeded, failed or lost; queued again while there are tries left.

    A server that vanished is tried again once more than asked for: that was not the notebook's fault.
    """
    now = control.clock()
    if row.server:
        server = session.get(ServerRow, row.server)
        if server is not None:
            server.stop = True
        row.server = None
    row.held_until = row.call_by = None
    if how == "lost":
        row.lost += 1
    request = request_of(row)
    tries = 1 + request.retries + (1 if row.lost else 0)
    if how == "succeeded" or final or row.attempt >= tries:
        row.state, row.ended_at, row.message = how, now, reason
        control.audit.append(
            session,
            actor=row.owner,
            action="job.end",
            object=f"job/{row.id}",
            group=row.group_name,
            after={"schedule": row.schedule, "state": how, "attempt": row.attempt, "reason": reason},
        )
    else:
        row.message = f"try {row.attempt} {'was lost' if how == 'lost' else 'failed'}: {reason}"
        row.state, row.attempt, row.waits = "queued", row.attempt + 1, 0
        row.not_before = now + pause_for(row.attempt - 2)
    control.events.publish("job", {"id": row.id, "schedule": row.schedule, "state": row.state}, row.group_name)


def pause(control: Control, session: Session, row: JobRow, reason: str) -> None:
    """Pause the job's schedule: it would be refused again."""
    schedule = session.get(ScheduleRow, row.schedule)
    if schedule is None or schedule.paused_reason is not None:
        return
    schedule.paused_reason = reason
    schedule.updated_at = control.clock()
    control.audit.append(
        session,
        actor="scheduler",
        action="schedule.pause",
        object=f"schedule/{row.schedule}",
        group=row.group_name,
        after={"reason": reason},
    )
    control.events.publish("schedule", {"name": row.schedule}, row.group_name)


def pause_for(turn: int) -> timedelta:
    """How long to wait before trying again: doubling, up to five minutes."""
    return min(_PAUSE * (1 << min(turn, 8)), _MOST_PAUSE)


def due_again(control: Control, turn: int) -> datetime:
    """The moment at which to try again."""
    return control.clock() + pause_for(turn)
