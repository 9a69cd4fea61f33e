"""The registry behind the control plane: what it keeps of other people's rows, and for how long."""

from __future__ import annotations

import hashlib
import os
import time
from types import SimpleNamespace
from unittest import mock

import pandas as pd
import pytest

from themisto.client import Unreachable
from themisto.errors import NotFound, Unavailable
from themisto.features.remote import RemoteRegistry
from themisto.features.service import Features
from themisto.settings import Settings
from themisto.types import new_ulid, utcnow

ROWS = b"rows, as they are now"
DIGEST = hashlib.sha256(ROWS).hexdigest()


class Control:
    """Answers with rows, and that an erasure is done."""

    group = "team"

    def __init__(self) -> None:
        self.requests = 0

    def request(self, *_, **__):
        self.requests += 1
        return SimpleNamespace(content=ROWS)

    def post(self, *_):
        return {"id": new_ulid(), "entity": "person", "state": "done", "created_at": utcnow()}


@pytest.fixture
def registry(tmp_path):
    return RemoteRegistry(Control(), tmp_path)


def old(folder, name, days):
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{name}.parquet"
    copy.write_bytes(b"rows of before")
    os.utime(copy, times=(time.time() - days * 86_400,) * 2)
    return copy


def test_rows_are_fetched_once_and_those_unused_for_a_week_go(registry, tmp_path):
    unused, used = (old(tmp_path / "cache" / "features", name, days) for name, days in (("a", 8), ("b", 6)))
    for _ in range(2):
        assert registry._fetched("people", "data", DIGEST).read_bytes() == ROWS
    assert registry._control.requests == 1
    assert (unused.exists(), used.exists()) == (False, True)


def test_a_copy_that_is_used_stays(registry, tmp_path):
    path = registry._fetched("people", "data", DIGEST)
    os.utime(path, times=(time.time() - 8 * 86_400,) * 2)
    registry._fetched("people", "data", DIGEST)
    registry._sweep()
    assert path.exists()


def test_erasing_leaves_no_copy_here(registry):
    path = registry._fetched("people", "data", DIGEST)
    registry.erase("person", {"id": 1})
    assert not path.exists()


class Gone:
    """A control plane that answers `answers` times, and then is away."""

    group = "team"

    def __init__(self, view, answers: int) -> None:
        self._view, self._answers = view, answers

    def _answer(self):
        self._answers -= 1
        if self._answers < 0:
            raise Unreachable("The control plane cannot be reached.", "Run the same command again in a moment.")

    def get(self, path, **_):
        self._answer()
        if path.startswith("features/views"):
            return {"view": self._view.model_dump(mode="json"), "created_at": utcnow()}
        return self.post(path)

    def post(self, path, *_):
        self._answer()
        now = {"id": new_ulid(), "created_at": utcnow(), "state": "waiting"}
        return now | ({"entity": "airport"} if "erase" in path else {"view": "weather", "updated_at": utcnow()})

    def request(self, *_, **__):
        self._answer()


LOST = {
    "push, before": (0, lambda f, rows: f.push("weather", rows), ""),
    "push, with the rows": (
        2,
        lambda f, rows: f.push("weather", rows),
        "Whether the rows of 'weather' arrived is not known; either all did or none.",
    ),
    "materialize, before": (0, lambda f, _: f.materialize("weather"), ""),
    "materialize, while it runs": (
        1,
        lambda f, _: f.materialize("weather"),
        "Materializing 'weather' goes on when it is back.",
    ),
    "erase, before": (0, lambda f, _: f.erase("airport", origin="JFK"), ""),
    "erase, while it runs": (1, lambda f, _: f.erase("airport", origin="JFK"), "is on record and goes on when it is"),
}


@pytest.mark.parametrize(("answers", "call", "says"), LOST.values(), ids=LOST)
def test_a_control_plane_that_goes_away_is_told_with_how_things_stand(
    tmp_path, monkeypatch, weather, weather_rows, answers, call, says
):
    monkeypatch.setattr("themisto.features.remote.time.sleep", lambda _: None)
    registry = RemoteRegistry(Gone(weather.with_version(1), answers), tmp_path)
    features = Features(Settings(url=None, home=tmp_path), None, registry)
    with pytest.raises(Unavailable, match=r"The control plane cannot be reached\.") as told:
        call(features, weather_rows)
    assert says in told.value.detail
    assert told.value.remedy.startswith("Run the same command again in a moment")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


class Removing:
    """A registry whose copies of rows are removed `times` times, just as somebody is about to read them."""

    def __init__(self, registry, times: int) -> None:
        self._registry, self._times = registry, times

    def __getattr__(self, name):
        return getattr(self._registry, name)

    def file(self, view):
        path = self._registry.file(view)
        if self._times:
            self._times -= 1
            return path.with_name("removed.parquet")
        return path


def test_rows_that_another_kernel_removes_are_fetched_again(applied, tmp_path):
    spine = pd.DataFrame({"origin": ["LGA"], "time_hour": pd.to_datetime(["2013-01-01 11:00"])})
    features = Features(applied._settings, None, Removing(applied.registry, 2))
    assert features.historical(spine, "delay")["temp"].tolist() == [2.0]
    with pytest.raises(Unavailable, match="The rows of 'weather' are removed as fast as they come"):
        Features(applied._settings, None, Removing(applied.registry, 99)).historical(spine, "delay")


def test_a_check_fetches_again_rows_that_another_kernel_removes(applied):
    applied.materialize("weather")
    features = Features(applied._settings, None, Removing(applied.registry, 1))
    assert "skew" not in features.check("delay").skipped
    with pytest.raises(Unavailable, match="The rows of 'weather' are removed as fast as they come"):
        Features(applied._settings, None, Removing(applied.registry, 99)).check("delay")


def test_a_check_goes_on_with_rows_that_are_removed_while_it_looks_at_them(applied):
    applied.materialize("weather")
    path = applied.registry.file(applied.show("weather"))

    class Reading(Removing):
        def read(self, *args, **more):
            path.unlink()
            return self._registry.read(*args, **more)

    found = Features(applied._settings, None, Reading(applied.registry, 0)).check("delay")
    assert not path.exists()
    assert [f.figures["kind"] for f in found.of("skew")] == ["expired"]  # rows of 2013, and all are found
    assert found.of("skew")[0].figures["entities"] == 2


def test_a_check_of_rows_that_are_gone_says_so(applied):
    applied.registry.file(applied.show("weather")).unlink()
    with pytest.raises(NotFound, match=r"The rows of 'weather' are gone\.") as told:
        applied.check("delay")
    assert told.value.remedy == "Apply it together with its source."


def test_rows_that_are_removed_while_they_are_joined_are_joined_all_the_same(applied):
    spine = pd.DataFrame({"origin": ["LGA"], "time_hour": pd.to_datetime(["2013-01-01 11:00"])})
    path = applied.registry.file(applied.show("weather"))

    def removing(name, *_, **__):
        path.unlink(missing_ok=True)
        return

    with mock.patch("themisto.features.join.merged", removing):
        assert applied.historical(spine, "delay")["temp"].tolist() == [2.0]
    assert not path.exists()
