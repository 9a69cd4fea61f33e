"""Routes of schedules: what people do with them, and what a job's own server does."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import FileResponse

from themisto.schedules.models import Job, JobReport, JobTask, Schedule, ScheduleRequest
from themisto.types import Model, Sha256, Slug, Ulid
from themisto_hub.control.auth import Caller, anyone, needs
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.schedules.reports import Reports
from themisto_hub.control.schedules.service import Schedules

__all__ = ["router"]

router = APIRouter(tags=["schedules"])


def get_schedules(control: Annotated[Control, Depends(get_control)]) -> Schedules:
    return Schedules(control)


def get_reports(control: Annotated[Control, Depends(get_control)]) -> Reports:
    return Reports(control, Schedules(control).files)


InSchedules = Annotated[Schedules, Depends(get_schedules)]
InReports = Annotated[Reports, Depends(get_reports)]
Anyone = Annotated[Caller, Depends(anyone)]
Scheduler = Annotated[Caller, Depends(needs("schedule"))]
Name = Annotated[Slug, Path()]
JobId = Annotated[Ulid, Path()]
Limit = Annotated[int, Query(ge=1, le=500)]
FileName = Annotated[str, Path(pattern=r"^output\.(ipynb|html)$")]

_SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
"""Output is somebody's HTML on the hub's origin: it may be looked at, and do nothing."""


class Stored(Model):
    """A snapshot that is there."""

    sha256: Sha256


@router.put("/schedules/snapshots/{sha256}", status_code=201, responses={200: {"model": Stored}})
async def put_snapshot(
    sha256: Annotated[Sha256, Path()],
    *,
    request: Request,
    response: Response,
    schedules: InSchedules,
    caller: Scheduler,
) -> Stored:
    """Store a zip that has this SHA-256; 200 where it was there already."""
    del caller
    new = await schedules.files.put_snapshot(sha256, request.stream())
    response.status_code = 201 if new else 200
    return Stored(sha256=sha256)


@router.post("/schedules", status_code=201)
def create(body: ScheduleRequest, schedules: InSchedules, caller: Scheduler) -> Schedule:
    """Make a schedule, or change one's own."""
    return schedules.create(caller, body)


@router.get("/schedules", name="schedules")
def page(schedules: InSchedules, caller: Anyone, limit: Limit = 100, after: Slug | None = None) -> list[Schedule]:
    """Schedules of the caller's groups, by name."""
    return schedules.page(caller, limit=limit, after=after)


@router.get("/schedules/{name}")
def schedule(name: Name, schedules: InSchedules, caller: Anyone) -> Schedule:
    return schedules.get(caller, name)


@router.delete("/schedules/{name}", status_code=204)
def remove(name: Name, schedules: InSchedules, caller: Scheduler) -> None:
    """Forget it, with its jobs and outputs."""
    schedules.remove(caller, name)


@router.post("/schedules/{name}/run", status_code=201)
def run(name: Name, schedules: InSchedules, caller: Scheduler) -> Job:
    """Run it once, now."""
    return schedules.run(caller, name)


@router.post("/schedules/{name}/pause")
def pause(name: Name, schedules: InSchedules, caller: Scheduler) -> Schedule:
    return schedules.pause(caller, name)


@router.post("/schedules/{name}/resume")
def resume(name: Name, schedules: InSchedules, caller: Scheduler) -> Schedule:
    return schedules.resume(caller, name)


@router.get("/schedules/{name}/jobs")
def jobs(name: Name, schedules: InSchedules, caller: Anyone, limit: Limit = 20, after: Ulid | None = None) -> list[Job]:
    """Newest first."""
    return schedules.jobs(caller, name, limit=limit, after=after)


@router.get("/schedules/{name}/jobs/{id}")
def job(name: Name, id: JobId, schedules: InSchedules, caller: Anyone) -> Job:
    return schedules.job(caller, name, id)


@router.get("/schedules/{name}/jobs/{id}/{file}", response_class=FileResponse)
def output(name: Name, id: JobId, file: FileName, schedules: InSchedules, caller: Anyone) -> FileResponse:
    """What the job left: its notebook with outputs, or that as HTML."""
    path = schedules.output(caller, name, id, file)
    kind = "text/html; charset=utf-8" if file.endswith(".html") else "application/x-ipynb+json"
    headers = {"Content-Security-Policy": _SANDBOX, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return FileResponse(path, media_type=kind, headers=headers)


@router.get("/jobs/mine")
def mine(reports: InReports, caller: Anyone) -> JobTask:
    """The task of the server that asks, by its own token."""
    return reports.mine(caller)


@router.get("/jobs/{id}/snapshot", response_class=FileResponse)
def snapshot(id: JobId, reports: InReports, caller: Anyone) -> FileResponse:
    """The zip of the job's notebook and files."""
    return FileResponse(reports.snapshot(caller, id), media_type="application/zip")


@router.put("/jobs/{id}/outputs/{file}", status_code=204)
async def put_output(id: JobId, file: FileName, request: Request, reports: InReports, caller: Anyone) -> None:
    """Leave a file."""
    await reports.put_output(caller, id, file, request.stream())


@router.post("/jobs/{id}/report", status_code=204)
def report(id: JobId, body: JobReport, reports: InReports, caller: Anyone) -> None:
    """How the try went; the server is stopped for it."""
    reports.report(caller, id, body)
