"""Schedules: what to run, when, on what; jobs: how each execution went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, StringConstraints

from themisto.profiles import ProfileName
from themisto.schedules.fields import Cron, ParameterName, ZoneName
from themisto.types import Json, Model, Sha256, Slug, Ulid, UserName, UtcTime

__all__ = [
    "FileName",
    "Job",
    "JobReport",
    "JobState",
    "JobTask",
    "Schedule",
    "ScheduleRequest",
]

JobState = Literal["queued", "starting", "running", "succeeded", "failed", "lost"]
"""queued -> starting (its server) -> running -> succeeded | failed; lost: the server vanished without a word."""

FileName = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]{0,199}$")]
"""One file's name, without a folder."""


class ScheduleRequest(Model):
    """A notebook that is to run by itself.

    cron: read in `tz`; a time that daylight saving skips runs once at the next valid minute, one
        that it repeats runs once, the first time.
    snapshot_sha256: digest of the zip with the notebook and its files, uploaded before.
    image, lock_sha256: the environment it was made in.
    retries: how often a failed run is tried again. timeout_s: of each try.
    """

    name: Slug
    group: Slug
    notebook: FileName
    cron: Cron
    tz: ZoneName = "UTC"
    profile: ProfileName
    parameters: Mapping[ParameterName, Json] = {}
    retries: Annotated[int, Field(ge=0, le=10)] = 0
    timeout_s: Annotated[float, Field(gt=0, le=7 * 86_400)] = 6 * 3600.0
    snapshot_sha256: Sha256
    image: str | None = None
    lock_sha256: Sha256 | None = None


class Job(Model):
    """One execution of a schedule's notebook, over all its tries.

    failed_cell: index of the cell that raised, counted from 0 in the notebook as it was scheduled.
    run_ids: MLflow runs it logged. message: one sentence on how it stands.
    """

    id: Ulid
    schedule: Slug
    group: Slug
    owner: UserName
    profile: ProfileName
    due_at: UtcTime
    state: JobState
    attempt: PositiveInt = 1
    started_at: UtcTime | None = None
    ended_at: UtcTime | None = None
    seconds: float | None = None
    message: str = ""
    failed_cell: int | None = None
    failed_cell_id: str | None = None
    traceback: str = ""
    parameters: Mapping[ParameterName, Json] = {}
    run_ids: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "lost")


class Schedule(Model):
    """A schedule as the control plane keeps it."""

    name: Slug
    group: Slug
    owner: UserName
    notebook: FileName
    cron: Cron
    tz: ZoneName
    profile: ProfileName
    parameters: Mapping[ParameterName, Json] = {}
    retries: int = 0
    timeout_s: float
    snapshot_sha256: Sha256
    image: str | None = None
    lock_sha256: Sha256 | None = None
    paused: bool = False
    paused_reason: str | None = None
    next_run_at: UtcTime | None = None
    last_job: Job | None = None


class JobTask(Model):
    """What a job's own server is told to do."""

    id: Ulid
    schedule: Slug
    attempt: PositiveInt
    notebook: FileName
    parameters: Mapping[ParameterName, Json]
    snapshot_sha256: Sha256


class JobReport(Model):
    """How one try went, as its server tells it."""

    state: Literal["succeeded", "failed"]
    seconds: NonNegativeFloat
    failed_cell: int | None = None
    failed_cell_id: Annotated[str, StringConstraints(max_length=100)] | None = None
    error: Annotated[str, StringConstraints(max_length=2_000)] = ""
    traceback: Annotated[str, StringConstraints(max_length=50_000)] = ""
    run_ids: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")], ...], Field(max_length=100)
    ] = ()
