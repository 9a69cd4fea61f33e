"""The engine stays within its bounds, spills to a folder that goes away, and stops when it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import themisto
from themisto.errors import Failed, Refused
from themisto.features.engine import Bounds, bounded, scratch, watched
from themisto.features.service import Features
from themisto.features.sql import query
from themisto.settings import Settings

ENDLESS = "SELECT count(*) FROM range(10_000_000) a, range(10_000_000) b WHERE a.range + b.range < 0"
SORTED = "SELECT a FROM (SELECT range AS a, hash(range) AS h FROM range(16_000_000)) ORDER BY h"


@pytest.fixture
def bounds(tmp_path: Path) -> Bounds:
    return Bounds(spill=tmp_path / "spill")


def test_settings_are_the_bounds(tmp_path: Path) -> None:
    said = Settings(url=None, home=tmp_path, features_memory_gib=1.5, features_sql_budget_s=3)
    assert Bounds.of(said) == Bounds(memory_gib=1.5, spill=tmp_path / "spill", budget_s=3)


def test_what_does_not_fit_is_spilled_and_gone_afterwards(tmp_path: Path) -> None:
    tight = Bounds(memory_gib=0.1, spill=tmp_path)
    largest = [0]
    with bounded(tight) as (con, folder):
        con.execute("SET threads = 2")

        def told(share: float) -> None:
            assert 0 <= share <= 1
            largest[0] = max([largest[0], *(p.stat().st_size for p in folder.iterdir())])

        rows = watched(con, lambda: con.sql(SORTED).to_arrow_table(), what="It", bounds=tight, told=told)
    assert len(rows) == 16_000_000
    assert largest[0] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    tight = Bounds(memory_gib=0.1, spill=tmp_path, spill_gib=0.005)
    with (
        pytest.raises(Failed, match=r"does not fit into its memory \(0.1 GiB\), and there is no room") as told,
        bounded(tight) as (con, _),
    ):
        watched(con, lambda: con.sql(SORTED).to_arrow_table(), what="The join", bounds=tight)
    assert "THEMISTO_FEATURES_SPILL" in told.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_stops_the_query_and_says_so(bounds: Bounds) -> None:
    with pytest.raises(Failed, match=r"You stopped it\. The join left nothing behind"), bounded(bounds) as (con, _):
        watched(
            con,
            lambda: con.execute(ENDLESS).fetchall(),
            what="The join",
            bounds=bounds,
            told=once(lambda: os.kill(os.getpid(), signal.SIGINT)),
        )
    assert list(bounds.folder.iterdir()) == []
    assert "The join" not in [thread.name for thread in threading.enumerate()]


def test_ctrl_c_while_nobody_is_told_anything_stops_the_query_too(bounds: Bounds) -> None:
    def work(con) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        con.execute(ENDLESS).fetchall()

    for _ in range(5):
        with pytest.raises(Failed, match="You stopped it"), bounded(bounds) as (con, _):
            watched(con, lambda: work(con), what="The join", bounds=bounds)
    assert list(bounds.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "reached", "says"),
    [
        (lambda f, v: f.apply(v), "local_rows.write_parquet", "'weather' is defined and has the rows it had before"),
        (lambda f, v: f.push("weather", v.source), "local_rows.write_parquet", "The rows may be there"),
        (lambda f, v: f.materialize("weather"), "local.latest", "Rows sent so far are online"),
    ],
    ids=["apply", "push", "materialize"],
)
def test_ctrl_c_in_a_query_of_this_thread_says_how_things_stand(applied, weather, monkeypatch, call, reached, says):
    def interrupted(*_: object, **__: object) -> None:
        raise RuntimeError("Query interrupted")  # what DuckDB makes of Ctrl-C in a notebook

    before = applied.show("weather")
    with monkeypatch.context() as patched:
        patched.setattr(f"themisto.features.{reached}", interrupted)
        with pytest.raises(Failed, match=f"You stopped it. {says}"):
            call(applied, weather)
    assert applied.show("weather") == before
    call(applied, weather)


def once(call):
    done: list[bool] = []
    return lambda share: done or (done.append(True), call())


def test_ctrl_c_in_a_join_leaves_no_file(applied: Features, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("themisto.features.engine._POLL_S", 0.01)
    hours = pd.to_datetime(np.arange(3_000_000) * 1_000_000 + 1_357_000_000_000_000, unit="us", utc=True)
    pd.DataFrame({"origin": "JFK", "time_hour": hours}).to_parquet(tmp_path / "spine.parquet")
    stop = once(lambda: os.kill(os.getpid(), signal.SIGINT))
    to = tmp_path / "out.parquet"
    with pytest.raises(Failed, match="You stopped it"):
        applied.joined(tmp_path / "spine.parquet", "delay", to=to, told=stop)
    assert not to.exists()
    assert not list(tmp_path.glob(".out*"))
    assert not list((tmp_path / "spill").iterdir())


def test_sql_without_an_end_is_refused(bounds: Bounds) -> None:
    with pytest.raises(Refused, match=r"did not end within 0\.3 s") as told:
        query(ENDLESS, {}, bounds=Bounds(spill=bounds.spill, budget_s=0.3))
    assert "THEMISTO_FEATURES_SQL_BUDGET_S" in told.value.remedy


def test_folders_of_the_killed_are_swept_and_of_the_living_are_not(bounds: Bounds) -> None:
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom themisto.features.engine import Bounds, scratch\n"
        f"with scratch(Bounds(spill=Path({str(bounds.folder)!r}))) as folder:\n"
        "    (folder / 'rows').write_text('left')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == -signal.SIGKILL
    assert len(list(bounds.folder.glob("*/rows"))) == 1
    with scratch(bounds) as mine:
        assert [p for p in bounds.folder.iterdir() if p.is_dir()] == [mine]
        with scratch(bounds) as other:
            assert mine.is_dir()
            assert other.is_dir()
    assert list(bounds.folder.iterdir()) == []


def test_a_bounded_join_spills_and_answers_the_same(tmp_path: Path) -> None:
    rows, rng = 1_000_000, np.random.default_rng(5)

    def times() -> pd.DatetimeIndex:
        return pd.to_datetime(1_704_067_200_000_000 + rng.integers(0, 10**12, rows), unit="us", utc=True)

    who = themisto.Entity("who", keys=["id"])
    ids = [rng.integers(0, 40_000, rows) for _ in range(3)]
    sources = [pd.DataFrame({"id": ids[n], "at": times(), f"f{n}": rng.random(rows)}) for n in (0, 1)]
    views = [themisto.FeatureView(f"v{n}", entity=who, at="at", source=s) for n, s in enumerate(sources)]
    free = Features(Settings(url=None, home=tmp_path), None)
    free.apply(*views, themisto.FeatureService("s", features=views))
    spine = tmp_path / "spine.parquet"
    pd.DataFrame({"id": ids[2], "at": times()}).to_parquet(spine)
    tight = Features(Settings(url=None, home=tmp_path, features_memory_gib=0.1), None)
    spilled = [0]

    def told(share: float) -> None:
        files = [p for p in (tmp_path / "spill").glob("*/duckdb*") if p.is_file()]
        spilled[0] = max(spilled[0], len(files))

    path = tight.joined(spine, "s", to=tmp_path / "out.parquet", told=told).frame
    assert spilled[0] > 0
    pd.testing.assert_frame_equal(pd.read_parquet(path), free.historical(spine, "s").to_pandas())
