"""Rows as the nouns they stand for."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.schedules.models import Job, JobReport, Schedule, ScheduleRequest
from themisto_hub.control.schedules.tables import JobRow, ScheduleRow

__all__ = ["job_of", "request_of", "schedule_of"]


def request_of(row: ScheduleRow | JobRow) -> ScheduleRequest:
    """What was asked for, as it was stored."""
    return ScheduleRequest.model_validate(row.content)


def schedule_of(session: Session, row: ScheduleRow) -> Schedule:
    """The schedule with its newest job."""
    newest = select(JobRow).where(JobRow.schedule == row.name).order_by(JobRow.due_at.desc()).limit(1)
    job = session.scalars(newest).first()
    return Schedule(
        **request_of(row).model_dump(),
        owner=row.owner,
        paused=row.paused_reason is not None,
        paused_reason=row.paused_reason,
        next_run_at=row.next_run_at if row.paused_reason is None else None,
        last_job=job_of(job) if job else None,
    )


def job_of(row: JobRow) -> Job:
    """The job with what its newest try reported."""
    request = request_of(row)
    report = JobReport.model_validate(row.result) if row.result else None
    return Job(
        id=row.id,
        schedule=row.schedule,
        group=row.group_name,
        owner=row.owner,
        profile=request.profile,
        due_at=row.due_at,
        state=row.state,
        attempt=row.attempt,
        started_at=row.started_at,
        ended_at=row.ended_at,
        seconds=report.seconds if report else None,
        message=row.message,
        failed_cell=report.failed_cell if report else None,
        failed_cell_id=report.failed_cell_id if report else None,
        traceback=report.traceback if report else "",
        parameters=request.parameters,
        run_ids=report.run_ids if report else (),
        outputs=tuple(row.outputs),
    )
