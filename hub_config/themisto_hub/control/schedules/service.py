"""What people do with schedules: make, look at, pause, resume, run and remove them, and read their jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from themisto.errors import Conflict, NotFound, Refused
from themisto.profiles import Profile
from themisto.schedules.models import Job, Schedule, ScheduleRequest
from themisto.types import new_ulid
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.schedules.files import Files
from themisto_hub.control.schedules.records import job_of, request_of, schedule_of
from themisto_hub.control.schedules.tables import JobRow, ScheduleRow, ServerRow
from themisto_hub.control.schedules.timing import next_due
from themisto_hub.profiles import allowed, load_profiles

__all__ = ["Schedules", "new_job"]

_BY_HAND = "paused by {}"
_SEE_ALL = ("audit", "admin")


class Schedules:
    """Schedules of groups. A member of the group sees and steers them; jobs run as their owner."""

    def __init__(self, control: Control) -> None:
        self._control = control

    @cached_property
    def files(self) -> Files:
        return Files(self._control.settings.folder("control") / "schedules")

    # schedules

    def create(self, caller: Caller, request: ScheduleRequest) -> Schedule:
        """Store a schedule; its owner's again under the same name takes the earlier one's place.

        Raises Refused for a group or profile that is not the caller's, NotFound for an unknown profile
        or snapshot, Conflict where another person's schedule has the name.
        """
        caller.require_group(request.group)
        self._check_profile(request)
        self.files.snapshot(request.snapshot_sha256)
        now = self._control.clock()
        with self._control.db.write() as session:
            row = session.get(ScheduleRow, request.name)
            before = row.content if row else None
            if row is not None and (row.owner, row.group_name) != (caller.name, request.group):
                raise Conflict(f"There is a schedule '{request.name}' already.", "Give yours another --name.")
            if row is None:
                row = ScheduleRow(name=request.name, group_name=request.group, owner=caller.name, created_at=now)
                session.add(row)
            row.content = request.model_dump(mode="json")
            row.snapshot_sha256 = request.snapshot_sha256
            row.paused_reason = None
            row.next_run_at = next_due(request.cron, request.tz, now)
            row.updated_at = now
            self._note(session, caller, "schedule.update" if before else "schedule.create", row, before=before)
            return schedule_of(session, row)

    def page(self, caller: Caller, *, limit: int, after: str | None) -> list[Schedule]:
        """Schedules of the caller's groups, by name."""
        query = select(ScheduleRow).order_by(ScheduleRow.name).limit(limit)
        if after is not None:
            query = query.where(ScheduleRow.name > after)
        if not caller.scopes.intersection(_SEE_ALL):
            query = query.where(ScheduleRow.group_name.in_(caller.groups))
        with self._control.db.read() as session:
            return [schedule_of(session, row) for row in session.scalars(query)]

    def get(self, caller: Caller, name: str) -> Schedule:
        with self._control.db.read() as session:
            return schedule_of(session, self._seen(session, caller, name))

    def pause(self, caller: Caller, name: str) -> Schedule:
        """No further firing until it is resumed; a job that runs goes on."""
        with self._control.db.write() as session:
            row = self._steered(session, caller, name)
            if row.paused_reason is None:
                row.paused_reason = _BY_HAND.format(caller.name)
                row.updated_at = self._control.clock()
                self._note(session, caller, "schedule.pause", row)
            return schedule_of(session, row)

    def resume(self, caller: Caller, name: str) -> Schedule:
        """Fire again from now on; what was missed is not made up for."""
        now = self._control.clock()
        with self._control.db.write() as session:
            row = self._steered(session, caller, name)
            if row.paused_reason is not None:
                before = {"paused": row.paused_reason}
                request = request_of(row)
                row.paused_reason = None
                row.next_run_at = next_due(request.cron, request.tz, now)
                row.updated_at = now
                self._note(session, caller, "schedule.resume", row, before=before)
            return schedule_of(session, row)

    def run(self, caller: Caller, name: str) -> Job:
        """Run it once now, paused or not."""
        with self._control.db.write() as session:
            row = self._steered(session, caller, name)
            now = self._control.clock()
            job = new_job(row, due_at=now, now=now)
            job.message = f"asked for by {caller.name}"
            session.add(job)
            session.flush()
            self._note(session, caller, "schedule.run", row, after={"job": job.id})
            return job_of(job)

    def remove(self, caller: Caller, name: str) -> None:
        """Forget the schedule with its jobs and outputs; servers that still run for it are stopped."""
        with self._control.db.write() as session:
            row = self._steered(session, caller, name)
            jobs = session.scalars(select(JobRow).where(JobRow.schedule == name)).all()
            self._note(session, caller, "schedule.remove", row, before=row.content)
            for job in jobs:
                server = session.get(ServerRow, job.server) if job.server else None
                if server is not None:
                    server.stop = True
            session.execute(delete(JobRow).where(JobRow.schedule == name))
            session.delete(row)
        self.files.forget([job.id for job in jobs])

    # jobs

    def jobs(self, caller: Caller, name: str, *, limit: int, after: str | None) -> list[Job]:
        """Newest first; `after` is the id of the last one seen."""
        query = select(JobRow).where(JobRow.schedule == name).order_by(JobRow.id.desc()).limit(limit)
        if after is not None:
            query = query.where(JobRow.id < after)
        with self._control.db.read() as session:
            self._seen(session, caller, name)
            return [job_of(row) for row in session.scalars(query)]

    def job(self, caller: Caller, name: str, job: str) -> Job:
        with self._control.db.read() as session:
            self._seen(session, caller, name)
            row = session.get(JobRow, job)
            if row is None or row.schedule != name:
                raise NotFound(f"The schedule '{name}' has no job {job}.", f"See %schedule jobs {name}.")
            return job_of(row)

    def output(self, caller: Caller, name: str, job: str, file: str) -> Path:
        """A file that a job left."""
        return self.files.output(self.job(caller, name, job).id, file)

    # who may

    def _seen(self, session: Session, caller: Caller, name: str) -> ScheduleRow:
        row = session.get(ScheduleRow, name)
        may = row is not None and (row.group_name in caller.groups or caller.scopes.intersection(_SEE_ALL))
        if row is None or not may:
            raise NotFound(f"There is no schedule '{name}' in your groups.", "See %schedule list.")
        return row

    def _steered(self, session: Session, caller: Caller, name: str) -> ScheduleRow:
        row = self._seen(session, caller, name)
        if row.group_name not in caller.groups and "admin" not in caller.scopes:
            raise Refused(f"The schedule '{name}' belongs to {row.group_name}.", "Ask one of its members.")
        return row

    def _check_profile(self, request: ScheduleRequest) -> None:
        every = load_profiles(self._control.settings.profiles_dir)
        mine = _names(allowed(every, [request.group], "job"))
        if request.profile in mine:
            return
        remedy = f"{request.group} may use: {', '.join(mine) or 'none'}."
        if request.profile not in _names(every):
            raise NotFound(f"There is no profile '{request.profile}'.", remedy)
        raise Refused(f"The profile '{request.profile}' is not for jobs of {request.group}.", remedy)

    def _note(
        self,
        session: Session,
        caller: Caller,
        action: str,
        row: ScheduleRow,
        *,
        before: object = None,
        after: object = None,
    ) -> None:
        """The change and its audit event are one; listeners hear of it."""
        self._control.audit.append(
            session,
            actor=caller.name,
            action=action,
            object=f"schedule/{row.name}",
            group=row.group_name,
            before=before,
            after=after if after is not None else row.content,
            request_id=caller.request_id,
        )
        self._control.events.publish("schedule", {"name": row.name}, row.group_name)


def new_job(row: ScheduleRow, *, due_at: datetime, now: datetime) -> JobRow:
    """A firing of the schedule as it is now."""
    return JobRow(
        id=new_ulid(),
        schedule=row.name,
        due_at=due_at,
        group_name=row.group_name,
        owner=row.owner,
        content=row.content,
        snapshot_sha256=row.snapshot_sha256,
        state="queued",
        attempt=1,
        lost=0,
        waits=0,
        not_before=now,
        message="",
        outputs=[],
    )


def _names(profiles: Sequence[Profile]) -> list[str]:
    return [profile.name for profile in profiles]
