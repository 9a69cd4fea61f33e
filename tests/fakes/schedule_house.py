"""A control plane without its web server: clock, hub and rounds of the scheduler in a test's hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.fakes.hub_servers import HubServers

from themisto.schedules.models import Job, JobReport, ScheduleRequest
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.schedules.reports import Reports
from themisto_hub.control.schedules.scheduler import Scheduler
from themisto_hub.control.schedules.service import Schedules
from themisto_hub.settings import Deployment, Keys

__all__ = ["ADMIN", "COLLEAGUE", "REVIEWER", "SCIENTIST", "ScheduleHouse"]

DIGEST = "0" * 64
SCIENTIST = Caller(name="scientist", groups=("data-science",), scopes=frozenset({"schedule"}))
COLLEAGUE = Caller(name="colleague", groups=("data-science",), scopes=frozenset({"schedule"}))
REVIEWER = Caller(name="reviewer", groups=("model-risk",), scopes=frozenset({"schedule"}))
ADMIN = Caller(name="admin", groups=("platform-admins",), scopes=frozenset({"schedule", "admin"}))


class ScheduleHouse:
    """A control plane without its web server: clock, hub and rounds in the test's hand."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder, self.database = folder, database
        self.now = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
        self.hub = HubServers()
        self.control = self.another()
        (folder / "control").mkdir(exist_ok=True)
        self.control.db.migrate()
        self.schedules = Schedules(self.control)
        self.scheduler = Scheduler(self.control, self.schedules.files)
        self.reports = Reports(self.control, self.schedules.files)
        snapshots = folder / "control" / "schedules" / "snapshots"
        snapshots.mkdir(parents=True)
        (snapshots / DIGEST).write_bytes(b"zip")

    def another(self) -> Control:
        settings = Deployment(state=self.folder, profiles_dir=Path("profiles"), database=self.database)
        hub: Any = self.hub
        return Control(settings, Keys(), clock=lambda: self.now, hub=hub)

    def create(self, caller: Caller = SCIENTIST, **changes: Any) -> None:
        fields = {
            "name": "nightly",
            "group": "data-science",
            "notebook": "n.ipynb",
            "cron": "0 2 * * *",
            "profile": "job-small",
            "snapshot_sha256": DIGEST,
        }
        self.schedules.create(caller, ScheduleRequest.model_validate({**fields, **changes}))

    def round(self, **later: float) -> None:
        self.now += timedelta(**later)
        for step in (self.scheduler.fire, self.scheduler.start, self.scheduler.watch, self.scheduler.stop):
            step()

    @property
    def job(self) -> Job:
        """The newest job."""
        return self.schedules.jobs(SCIENTIST, "nightly", limit=1, after=None)[0]

    @property
    def servers(self) -> list[str]:
        return [name for _, name, _ in self.hub.asked]

    def server(self, **changes: Any) -> Caller:
        """The caller that the newest job's server is."""
        return SCIENTIST.model_copy(update={"server": self.servers[-1], **changes})

    def report(self, state: str, **more: Any) -> None:
        caller = self.server()
        self.reports.mine(caller)
        self.reports.report(caller, self.job.id, JobReport.model_validate({"state": state, "seconds": 1.0, **more}))

    def actions(self) -> list[str]:
        with self.control.db.read() as session:
            return list(session.scalars(select(AuditRow.action).order_by(AuditRow.number)))
