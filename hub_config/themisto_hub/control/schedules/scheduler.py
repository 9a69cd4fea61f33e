"""One round of scheduling: fire what is due, start what is queued, look after what runs, stop what is done.

All state is in the database, so that any number of schedulers may run on it and any may be killed.
A firing is one row, unique by (schedule, due time). A queued job is taken by one conditional update
and held for a while; whoever finds it held too long asks the hub what became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from themisto.errors import Conflict, NotFound, Refused, ThemistoError, Unavailable
from themisto.types import new_ulid
from themisto_hub.control.context import Control
from themisto_hub.control.schedules.files import Files
from themisto_hub.control.schedules.records import request_of
from themisto_hub.control.schedules.reports import due_again, end_try, pause
from themisto_hub.control.schedules.service import new_job
from themisto_hub.control.schedules.tables import JobRow, ScheduleRow, ServerRow
from themisto_hub.control.schedules.timing import latest_due, next_due

__all__ = ["Scheduler"]

_ACTIVE = ("starting", "running")
_HELD = timedelta(seconds=150)  # longer than one request to the hub takes
_CALL_WITHIN = timedelta(minutes=5)
_GIVE_UP = timedelta(hours=24)
_BATCH = 8
_log = logging.getLogger(__name__)


class Scheduler:
    """The rounds of one scheduler. Methods block; each is one thread's work."""

    def __init__(self, control: Control, files: Files) -> None:
        self._control = control
        self._files = files

    # firing

    def fire(self) -> None:
        """Write a job for each schedule that is due; of firings missed while nobody looked, only the last."""
        now = self._control.clock()
        due = select(ScheduleRow.name).where(ScheduleRow.next_run_at <= now, ScheduleRow.paused_reason.is_(None))
        with self._control.db.read() as session:
            names = session.scalars(due.limit(500)).all()
        for name in names:
            try:
                self._fire(name)
            except IntegrityError:
                _log.info("%s was fired by another scheduler", name)

    def _fire(self, name: str) -> None:
        now = self._control.clock()
        with self._control.db.write() as session:
            row = session.scalars(select(ScheduleRow).where(ScheduleRow.name == name).with_for_update()).first()
            if row is None or row.paused_reason is not None or row.next_run_at is None or row.next_run_at > now:
                return
            request = request_of(row)
            due_at = latest_due(request.cron, request.tz, row.next_run_at, now)
            row.next_run_at = next_due(request.cron, request.tz, due_at)
            job = new_job(row, due_at=due_at, now=now)
            session.add(job)
            session.flush()
            self._control.events.publish("job", {"id": job.id, "schedule": name, "state": "queued"}, row.group_name)

    # starting

    def start(self) -> None:
        """Start the servers of queued jobs; of each schedule one job at a time."""
        taken = list(self._take())
        if taken:
            with ThreadPoolExecutor(len(taken)) as pool:
                list(pool.map(self._start, taken))

    def _take(self) -> Iterator[JobRow]:
        now = self._control.clock()
        other = aliased(JobRow)
        busy = select(other.id).where(other.schedule == JobRow.schedule, other.state.in_(_ACTIVE)).exists()
        ready = (
            select(JobRow.id, JobRow.schedule)
            .where(JobRow.state == "queued", JobRow.not_before <= now, ~busy)
            .order_by(JobRow.due_at)
        )
        with self._control.db.read() as session:
            found = session.execute(ready.limit(_BATCH)).all()
        for job in {row.schedule: row.id for row in reversed(found)}.values():
            taken = self._taken(job)
            if taken is not None:
                yield taken

    def _taken(self, job: str) -> JobRow | None:
        """The job, if this scheduler was the one to take it."""
        now = self._control.clock()
        server = f"job-{new_ulid()[-20:].lower()}"
        mine = update(JobRow).where(JobRow.id == job, JobRow.state == "queued", JobRow.not_before <= now)
        with self._control.db.write() as session:
            took = session.execute(mine.values(state="starting", server=server, held_until=now + _HELD))
            if took.rowcount != 1:  # type: ignore[attr-defined]  # of an UPDATE
                return None
            row = session.get_one(JobRow, job, populate_existing=True)
            session.add(ServerRow(name=server, owner=row.owner, stop=False))
            if row.waits == 0:
                self._control.audit.append(
                    session,
                    actor=row.owner,
                    action="job.start",
                    object=f"job/{job}",
                    group=row.group_name,
                    after={"schedule": row.schedule, "due_at": row.due_at.isoformat(), "attempt": row.attempt},
                )
            self._control.events.publish(
                "job", {"id": job, "schedule": row.schedule, "state": "starting"}, row.group_name
            )
            return row

    def _start(self, job: JobRow) -> None:
        """Ask the hub for the server. The hub asks the identity provider about its owner on the way."""
        request = request_of(job)
        options = {"profile": request.profile, "group": job.group_name}
        assert job.server is not None
        try:
            self._control.hub.start_server(
                job.owner, job.server, {"display_name": f"job {job.schedule}", "user_options": options}
            )
        except Unavailable as error:
            self._put_off(job, error)
        except (Refused, NotFound) as error:
            self._refused(job, error)
        except Conflict:
            _log.info("the server %s is starting already", job.server)
        except ThemistoError as error:
            self._ended(job, "failed", f"its server did not start: {error.detail}")
        else:
            self._expect_call(job)

    def _expect_call(self, job: JobRow) -> None:
        with self._control.db.write() as session:
            row = self._still(session, job)
            if row is not None and row.state == "starting":
                row.held_until, row.call_by = None, self._control.clock() + _CALL_WITHIN

    def _put_off(self, job: JobRow, error: ThemistoError) -> None:
        """The hub or its identity provider cannot answer now: wait, longer each time, for a day at most."""
        with self._control.db.write() as session:
            row = self._still(session, job)
            if row is None:
                return
            if self._control.clock() - row.due_at > _GIVE_UP:
                end_try(self._control, session, row, "failed", f"given up after a day: {error.detail}", final=True)
                return
            server = session.get(ServerRow, job.server)
            if server is not None:
                server.stop = True
            row.state, row.server, row.held_until = "queued", None, None
            row.waits += 1
            row.not_before = due_again(self._control, row.waits - 1)
            row.message = f"put off: {error.detail}"

    def _refused(self, job: JobRow, error: ThemistoError) -> None:
        with self._control.db.write() as session:
            row = self._still(session, job)
            if row is not None:
                pause(self._control, session, row, error.detail)
                end_try(self._control, session, row, "failed", error.detail, final=True)

    # looking after

    def watch(self) -> None:
        """End jobs whose server vanished or whose time is up. While the hub does not answer, nothing is lost."""
        with self._control.db.read() as session:
            active = session.scalars(select(JobRow).where(JobRow.state.in_(_ACTIVE))).all()
            session.expunge_all()  # looked at after this, while the hub is asked
        for owner in sorted({job.owner for job in active}):
            try:
                servers = self._servers(owner)
            except Unavailable as error:
                _log.warning("servers of jobs cannot be looked at: %s", error.detail)
                return
            for job in active:
                if job.owner == owner:
                    self._look_at(job, servers.get(job.server or ""))

    def _servers(self, owner: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._control.hub.user(owner).get("servers") or {}
        except NotFound:
            return {}
        return found

    def _look_at(self, job: JobRow, server: dict[str, Any] | None) -> None:
        now = self._control.clock()
        if job.held_until is not None and job.held_until > now:
            return
        if not server or not (server.get("ready") or server.get("pending")):
            self._ended(job, "lost", "its server vanished without a report")
        elif job.state == "running":
            limit_s = request_of(job).timeout_s
            if job.started_at is not None and now - job.started_at > timedelta(seconds=limit_s):
                self._ended(job, "failed", f"it took longer than {limit_s:g} s")
        elif job.call_by is None:  # whoever took it did not live to say that its server was asked for
            self._expect_call(job)
        elif job.call_by < now:
            self._ended(job, "lost", "its server never asked for its task")

    def _ended(self, job: JobRow, how: str, reason: str) -> None:
        with self._control.db.write() as session:
            row = self._still(session, job)
            if row is not None:
                end_try(self._control, session, row, how, reason)

    @staticmethod
    def _still(session: Any, job: JobRow) -> JobRow | None:
        """The job, if it is still at the try that was looked at."""
        query = select(JobRow).where(
            JobRow.id == job.id, JobRow.server == job.server, JobRow.state.in_(_ACTIVE), JobRow.attempt == job.attempt
        )
        found: JobRow | None = session.scalars(query.with_for_update()).first()
        return found

    # stopping

    def stop(self) -> None:
        """Stop the servers of tries that have ended, until the hub has done so."""
        with self._control.db.read() as session:
            servers = session.scalars(select(ServerRow).where(ServerRow.stop).limit(_BATCH)).all()
            session.expunge_all()
        for server in servers:
            try:
                self._control.hub.stop_server(server.owner, server.name)
            except ThemistoError as error:
                _log.warning("the server %s is not stopped yet: %s", server.name, error.detail)
                continue
            with self._control.db.write() as session:
                row = session.get(ServerRow, server.name)
                if row is not None:
                    session.delete(row)

    def sweep(self) -> None:
        """Forget snapshots that nobody needs."""
        with self._control.db.read() as session:
            keep = set(session.scalars(select(ScheduleRow.snapshot_sha256)))
            keep |= set(session.scalars(select(JobRow.snapshot_sha256)))
        self._files.sweep(keep)
