"""A control plane's serving parts over a real SQLite file, with a clock that tests move."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from themisto.serving.models import Artifact, Column, Golden, Release, ReleaseRequest, Signature
from themisto.serving.rollout import RolloutRequest
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.gates.holdouts import HoldOuts
from themisto_hub.control.outbox.target import Target
from themisto_hub.control.serving.approvals import Approvals, Login
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.callers import Callers
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.endpoints import Endpoints
from themisto_hub.control.serving.names import Names
from themisto_hub.control.serving.progress import Progress
from themisto_hub.control.serving.releases import Releases
from themisto_hub.control.serving.rollouts import Rollouts
from themisto_hub.settings import Deployment, Keys

MODEL = b"not a real model, but real bytes"
DIGEST = hashlib.sha256(MODEL).hexdigest()
GROUPS = frozenset({"data-science", "model-risk", "platform-admins", "other-team", "third-team"})


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)  # two steps never have the same time
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


class World:
    """Everything a test of serving asks for."""

    def __init__(self, state: Path, *, targets: Sequence[Target] = (), **settings: Any) -> None:
        self.clock = Clock()
        settings.setdefault("allowed_groups", GROUPS)
        self.control = Control(
            Deployment(state=state, **settings), Keys(operator=SecretStr("key")), clock=self.clock, targets=targets
        )
        folder = state / "control" / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DIGEST).write_bytes(MODEL)
        self.control.db.migrate()
        self.changes = Changes(self.control)
        self.artifacts = ArtifactStore(state / "control" / "artifacts")
        self.endpoints = Endpoints(self.control)
        self.holdouts = HoldOuts(self.control)
        self.names = Names(self.control, self.changes)
        self.callers = Callers(self.control)
        self.releases = Releases(self.control, self.artifacts, self.holdouts)
        self.rollouts = Rollouts(self.control, self.changes)
        self.progress = Progress(self.control, self.changes)
        self.approvals = Approvals(self.control, self.changes)

    def caller(self, name: str = "scientist", *groups: str, scopes: tuple[str, ...] = ("deploy",)) -> Caller:
        return Caller(name=name, groups=groups or ("data-science",), scopes=frozenset(scopes))

    def login(self, name: str = "reviewer", *groups: str) -> Login:
        return Login(name=name, groups=frozenset(groups or ("model-risk",)), at=self.clock())

    def release(self, endpoint: str = "credit", **change: Any) -> Release:
        """Posted by the scientist; each call with another `cell` is another release."""
        return self.releases.create(self.caller(), endpoint, request(**change))[0]

    def live(self, endpoint: str = "credit", **change: Any) -> Release:
        """A release that the reconciler has brought to traffic (prod: proved and approved first)."""
        made = self.release(endpoint, **change)
        work = self.progress.unfinished()[-1]
        if work.needs_proof:
            self.progress.proved(work.rollout, "proved")
            _, ticket = self.approvals.open(self.login(), work.rollout)
            self.approvals.decide(ticket, "approve")
        self.progress.loaded(work.rollout, "answers")
        return made

    def rollout_id(self, endpoint: str = "credit") -> str:
        rollout = self.endpoints.get(self.caller(), endpoint).rollout
        assert rollout is not None
        return rollout.id

    def promoted(self, endpoint: str = "credit", **change: Any) -> Release:
        made = self.live(endpoint, **change)
        self.rollouts.promote(self.caller(), endpoint, self.rollout_id(endpoint))
        return made

    def audit(self) -> list[AuditRow]:
        with self.control.db.read() as session:
            rows = list(session.query(AuditRow).order_by(AuditRow.number))
            session.expunge_all()
            return rows

    def last_audit(self) -> AuditRow:
        return self.audit()[-1]


def request(**change: Any) -> ReleaseRequest:
    content: dict[str, Any] = {
        "group": "data-science",
        "artifact": Artifact(kind="onnx", sha256=DIGEST, size_bytes=len(MODEL)),
        "signature": Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=(Column(name="y", dtype="FP32"),)),
        "golden": Golden(inputs={"x": [1.0, 2.0]}, outputs={"y": [2.0, 4.0]}),
        "cell": "model",
        "rollout": RolloutRequest(),
    }
    return ReleaseRequest.model_validate(content | change)


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**settings: Any) -> World:
        made.append(World(tmp_path / f"state{len(made)}", **settings))
        return made[-1]

    yield make
    for world in made:
        world.control.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def new_request() -> Callable[..., ReleaseRequest]:
    return request
