"""The serving world with hold-outs, pinned gates and a schedule to retrain by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.control.serving.conftest import DIGEST, World

from themisto.schedules.models import ScheduleRequest
from themisto.serving.gates import GateResult, Quality
from themisto.serving.holdout import HoldOutRequest
from themisto_hub.control.gates.labels import LabelJudge
from themisto_hub.control.gates.policies import Policies
from themisto_hub.control.gates.retraining import Retrainings
from themisto_hub.control.schedules.service import Schedules

ROWS = "a" * 64


class Gated(World):
    """A world in which the group has stored a hold-out of 1,000 rows."""

    def __init__(self, state: Path, **settings: Any) -> None:
        super().__init__(state, **settings)
        self.policies = Policies(self.control, self.changes)
        self.retrainings = Retrainings(self.control)
        self.labels = LabelJudge(self.control, self.changes, self.retrainings)
        self.schedules = Schedules(self.control)
        self.store()

    def store(self, sha256: str = ROWS, group: str = "data-science", **change: Any) -> None:
        file = self.control.settings.folder("control") / "holdouts" / group / sha256
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"rows")
        fields = {
            "sha256": sha256,
            "group": group,
            "name": "valid",
            "rows": 1000,
            "columns": ("x", "region", "default"),
            "digests": ("b" * 64,),
        }
        self.holdouts.register(self.caller("scientist", group), HoldOutRequest.model_validate(fields | change))

    def result(self, gate: str = "auc >= 0.8", *, passed: bool | None = True, **change: Any) -> GateResult:
        fields: dict[str, Any] = {
            "gate": gate,
            "passed": passed,
            "says": f"{gate} is {'as asked' if passed else 'not reached'}",
            "value": 0.9,
            "release": 1,
            "champion_release": None,
            "source": "holdout",
            "pinned": False,
            "holdout_sha256": ROWS,
            "rows": 1000,
            "at": self.clock(),
        }
        return GateResult.model_validate(fields | change)

    def schedule(self, name: str = "retrain", group: str = "data-science") -> None:
        snapshots = self.control.settings.folder("control") / "schedules" / "snapshots"
        snapshots.mkdir(parents=True, exist_ok=True)
        (snapshots / DIGEST).write_bytes(b"zip")
        request = ScheduleRequest(
            name=name, group=group, notebook="n.ipynb", cron="0 2 * * *", profile="job-small", snapshot_sha256=DIGEST
        )
        self.schedules.create(self.caller("scientist", group), request)

    def rollout(self, endpoint: str = "credit") -> Any:
        return self.endpoints.get(self.caller(), endpoint).rollout

    def actions(self) -> list[str]:
        return [row.action for row in self.audit()]


def quality(*gates: str, **change: Any) -> Quality:
    fields = {"gates": gates or ("auc >= 0.8",), "holdout_sha256": ROWS, "rows": 1000, "label": "default"}
    return Quality.model_validate(fields | change)


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = Gated(tmp_path / "state", profiles_dir=Path("profiles"))
    yield made
    made.control.close()


@pytest.fixture
def new_quality() -> Callable[..., Quality]:
    return quality
