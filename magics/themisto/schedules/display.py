"""How schedules and jobs show themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from themisto.display import Card, Table
from themisto.schedules.models import Job, Schedule

__all__ = ["JobCard", "JobTable", "ScheduleCard", "ScheduleTable"]


class ScheduleCard(Card):
    """One schedule."""

    def __init__(self, schedule: Schedule) -> None:
        facts = {
            "notebook": schedule.notebook,
            "when": f"{schedule.cron} ({schedule.tz})",
            "next": _moment(schedule.next_run_at, schedule.tz),
            "profile": schedule.profile,
            "runs as": schedule.owner,
            "parameters": [f"{k}={v!r}" for k, v in schedule.parameters.items()] or None,
            "retries": schedule.retries or None,
        }
        note = f"Paused: {schedule.paused_reason}." if schedule.paused else ""
        super().__init__(f"Schedule {schedule.name}", {k: v for k, v in facts.items() if v is not None}, note)


class ScheduleTable(Table):
    """All schedules of the caller's groups."""

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        rows = [
            [s.name, s.notebook, f"{s.cron} ({s.tz})", _state(s), s.profile, s.owner, s.last_job and s.last_job.state]
            for s in schedules
        ]
        columns = ["schedule", "notebook", "when", "next", "profile", "runs as", "last job"]
        super().__init__(columns, rows, title="Schedules")


class JobCard(Card):
    """One job; a failed one with the failing cell's traceback."""

    def __init__(self, job: Job) -> None:
        facts = {
            "state": job.state,
            "due": _moment(job.due_at, "UTC"),
            "profile": job.profile,
            "try": job.attempt,
            "took": None if job.seconds is None else f"{job.seconds:.1f} s",
            "says": job.message or None,
            "cell": None if job.failed_cell is None else job.failed_cell + 1,
        }
        super().__init__(f"Job {job.id} of {job.schedule}", {k: v for k, v in facts.items() if v is not None})
        self._traceback = job.traceback

    def __repr__(self) -> str:
        return "\n\n".join(part for part in (super().__repr__(), self._traceback) if part)

    def _repr_html_(self) -> str:
        traceback = f"<pre>{escape(self._traceback)}</pre>" if self._traceback else ""
        return f"{super()._repr_html_()}{traceback}"


class JobTable(Table):
    """Jobs of one schedule, newest first."""

    def __init__(self, name: str, jobs: Sequence[Job]) -> None:
        rows = [
            [
                job.id,
                _moment(job.due_at, "UTC"),
                job.state,
                job.attempt,
                None if job.seconds is None else f"{job.seconds:.1f}",
                None if job.failed_cell is None else job.failed_cell + 1,
                job.message or None,
            ]
            for job in jobs
        ]
        columns = ["job", "due", "state", "try", "seconds", "cell", "message"]
        super().__init__(columns, rows, title=f"Jobs of {name}", empty="none yet")


def _state(schedule: Schedule) -> str | None:
    return "paused" if schedule.paused else _moment(schedule.next_run_at, schedule.tz)


def _moment(at: datetime | None, tz: str) -> str | None:
    return None if at is None else at.astimezone(ZoneInfo(tz)).strftime("%Y-%m-%d %H:%M %Z")
