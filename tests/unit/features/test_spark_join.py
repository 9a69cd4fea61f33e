"""Joins by Spark: the suite of the other joins, the same answers as DuckDB's to the row, and the plan."""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.features.test_join import (  # noqa: F401  # noqa: F401 - the same tests, on Spark
    answers_as_the_oracle_does,
    asked,
    events,
    keys,
    moments,
    test_index_and_other_columns_stay,
    test_join_never_looks_ahead,
    test_last_written_wins_a_tie,
    test_row_exactly_ttl_old_still_holds,
    test_wrong_entity_rows_are_told,
)
from tests.unit.features.test_spines import (  # noqa: F401 - the same tests, on Spark
    spine,
    test_a_file_is_joined_part_by_part,
    test_a_result_stopped_by_a_mistake_leaves_no_file,
    test_keys_of_several_columns_in_every_kind,
    test_on_demand_features_are_computed_of_a_file_too,
    test_rows_keep_order_and_number_in_every_kind,
)

import themisto
from themisto.errors import Conflict, Failed, Invalid, MissingSetting, Unavailable
from themisto.features import spark_join
from themisto.features.engine import Bounds
from themisto.features.join import point_in_time
from themisto.features.resolve import resolve
from themisto.features.rowfile import write_parquet
from themisto.features.service import Features
from themisto.features.spark import master_of, session
from themisto.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
ENGINE = "spark+local[2]"
START = datetime(2024, 3, 31, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def started(tmp_path_factory):
    """PySpark from its own environment, and a session, which ends with this module; what came to stdout and stderr."""
    found = list((ROOT / ".venvs" / "spark").glob("lib/python3.*/site-packages/pyspark"))
    assert found, "PySpark is not installed: make build/ready/spark"
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch, (folder / "said").open("wb") as said:
        patch.syspath_prepend(str(found[0].parent))
        patch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")  # short work: compiled once is enough
        saved = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(said.fileno(), number)
        try:
            first = threading.Thread(target=session, args=(ENGINE, Bounds(spill=folder / "spill")))
            first.start()
            first.join()
        finally:
            for number, handle in zip((1, 2), saved, strict=True):
                os.dup2(handle, number)
                os.close(handle)
        yield (folder / "said").read_text()
        from pyspark import SparkContext

        SparkContext._active_spark_context.stop()
        gateway = SparkContext._gateway
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(60)
        SparkContext._gateway = SparkContext._jvm = None


@pytest.fixture
def bounds(tmp_path: Path) -> Bounds:
    return Bounds(spill=tmp_path / "spill", engine=ENGINE)


@pytest.fixture
def features(tmp_path: Path) -> Features:
    return Features(Settings(url=None, home=tmp_path, features_engine=ENGINE), None)


def test_nothing_of_spark_comes_into_a_cell(started: str, applied: Features, capfd) -> None:
    frame = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01 11:00"], utc=True)})
    before = signal.getsignal(signal.SIGINT)
    assert applied.historical(frame, "delay")["temp"].tolist() == [1.5]
    assert started == ""
    assert capfd.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler


@settings(max_examples=8, deadline=None)
@given(
    rows=events,
    entities=asked,
    ttl=st.sampled_from([None, 60, 300]),
    zone=st.sampled_from(["UTC", "Asia/Seoul", None]),
    created=st.booleans(),
    known=st.booleans(),
)
def test_spark_answers_as_the_oracle_does(rows, entities, ttl, zone, created, known):
    answers_as_the_oracle_does(rows, entities, ttl, zone, created, known, bounds=Bounds(engine=ENGINE))


KINDS = {
    "yes": (pa.bool_(), [True, False]),
    "small": (pa.int32(), [-(2**31), 0, 7]),
    "large": (pa.int64(), [-(2**63), 2**63 - 1]),
    "half": (pa.float32(), [0.1, math.nan, -0.0]),
    "real": (pa.float64(), [1e300, math.inf, -math.inf, math.nan]),
    "text": (pa.string(), ["", "é\x00'", "z" * 5000]),
    "seen": (
        pa.timestamp("us", "UTC"),
        [
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(1582, 10, 10, 1, 2, 3, 4, tzinfo=UTC),
            datetime(9999, 1, 1, tzinfo=UTC),
        ],
    ),
    "money": (pa.decimal128(38, 9), [Decimal("12345678901234567890123456789.123456789"), Decimal("-0.000000001")]),
    "counts": (pa.list_(pa.int64()), [[], [1, 2**62]]),
    "vector": (pa.list_(pa.float32()), [[0.1, math.nan]]),
    "points": (pa.list_(pa.float64()), [[math.inf], [0.1] * 300]),
}


def of_two_entities(random: np.random.Generator, count: int) -> tuple[list[themisto.FeatureView], pa.Table]:
    """Three views with all kinds of features, two of them of one entity, and a given_rows with holes."""

    def column(type_, values, rows):
        return pa.array(
            [None if random.random() < 0.2 else values[random.integers(len(values))] for _ in range(rows)], type_
        )

    def moments_of(rows):
        return pa.array(
            [START + timedelta(minutes=int(m)) for m in random.integers(0, 40, rows)], pa.timestamp("us", "UTC")
        )

    def table(names, rows):
        found = {"who": column(pa.string(), ["a", "b", "ü"], rows), "flag": column(pa.bool_(), [True, False], rows)}
        found |= {"number": column(pa.int32(), [1, 2, 3], rows), "at": moments_of(rows), "made": moments_of(rows)}
        return pa.table(found | {name: column(*KINDS[name], rows) for name in names})

    pair, one = themisto.Entity("pair", keys=["who", "number"]), themisto.Entity("one", keys=["flag"])
    names = list(KINDS)
    chosen = [(pair, names[:4], {"ttl": "10m"}), (pair, names[3:8], {"created": "made"})]
    chosen += [(one, names[7:], {"created": "made", "ttl": "7m"})]
    views = [
        themisto.FeatureView(
            f"v{i}", entity=entity, at="at", features=of, source=table(of, count), **more
        ).with_version(1)
        for i, (entity, of, more) in enumerate(chosen)
    ]
    given_rows = table([], count).drop_columns(["made"])
    when = pa.array([None if random.random() < 0.1 else m for m in given_rows["at"].to_pylist()], given_rows["at"].type)
    return [view.with_version(1) for view in views], given_rows.set_column(3, "at", when)


def laid(views: list[themisto.FeatureView], folder: Path):
    by_name = {view.name: view for view in views}
    spec = resolve(themisto.FeatureService("s", features=list(by_name)), by_name.__getitem__, version=1)
    return spec, {view.name: write_parquet(view, view.source, folder)[0] for view in views}, by_name


def same(found: pa.Table, expected: pa.Table) -> None:
    """Cell by cell, NaN and the sign of zero included."""
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        assert list(map(repr, found[name].to_pylist())) == list(map(repr, expected[name].to_pylist())), name


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("few", [0, 1000], ids=["all-events", "events-of-asked-keys"])
def test_answers_are_duckdbs_to_the_row_for_all_types(tmp_path, bounds, monkeypatch, known, few) -> None:
    monkeypatch.setattr(spark_join, "_FEW_ROWS", few)
    monkeypatch.setattr(spark_join, "_ROWS", 70)  # several blocks
    views, given_rows = of_two_entities(np.random.default_rng(11), 400)
    spec, files, by_name = laid(views, tmp_path)
    expected = point_in_time(given_rows, "at", spec, files, by_name, known=known)
    found = point_in_time(given_rows, "at", spec, files, by_name, known=known, bounds=bounds)
    same(found, expected)
    assert all(0 < expected[c.name].null_count < len(given_rows) for c in spec.columns)


def shuffles(frame) -> list[str]:
    """What rows are brought together by, shuffle by shuffle."""
    plan = frame._jdf.queryExecution().executedPlan().toString()
    assert not re.search(r"(?<!Broadcast)Exchange (?!hashpartitioning)", plan), plan
    return sorted(re.sub(r"#\d+L?", "", by) for by in re.findall(r"Exchange hashpartitioning\((.*?), \d+\)", plan))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("few", [0, 1000], ids=["all-events", "events-of-asked-keys"])
def test_the_plan_has_one_shuffle_an_entity_and_one_back_into_order(tmp_path, bounds, monkeypatch, known, few) -> None:
    monkeypatch.setattr(spark_join, "_FEW_ROWS", few)
    views, given_rows = of_two_entities(np.random.default_rng(3), 50)
    who = themisto.Entity("pair", keys=["number", "who"])  # the same keys, in another order
    source = views[1].source
    views.append(themisto.FeatureView("fourth", entity=who, at="at", features=["real"], source=source).with_version(1))

    def plan(*chosen: themisto.FeatureView):
        spec, files, by_name = laid(list(chosen), tmp_path)
        numbered = given_rows.append_column("n_", pa.array(range(len(given_rows)))).rename_columns({"at": "at_"})
        keyed = numbered.rename_columns({k.name: f"k{i}" for i, k in enumerate(spec.keys)})
        asked = spark_join.written_asked(iter([keyed]), tmp_path / "asked.parquet")
        return spark_join.planned(session(ENGINE, bounds), asked, spec, files, by_name, known=known)

    assert shuffles(plan(views[0], views[1], views[3])) == ["k0, k1", "part_"]
    assert shuffles(plan(*views)) == ["k0, k1", "k2", "part_"]


def test_windowed_views_are_joined_beside_by_duckdb(features: Features, weather, tmp_path) -> None:
    airport = themisto.Entity("airport", keys=["origin"])
    rows = pd.DataFrame({"origin": "JFK", "at": pd.date_range("2013-01-01 10:01", periods=9, freq="7min", tz="UTC")})
    rows["delay"] = range(9)
    summed = themisto.Aggregate("delay", "sum", over="1h")
    delays = themisto.FeatureView("delays", entity=airport, at="at", source=rows, every="5m", aggregates=[summed])
    chosen = ["weather:temp", "delays", "weather:sky"]
    features.apply(airport, weather, delays, themisto.FeatureService("both", features=chosen))
    plain = Features(Settings(url=None, home=tmp_path), None)
    times = pd.date_range("2013-01-01 10:00", periods=50, freq="2min", tz="UTC")
    given_rows = pd.DataFrame({"origin": ["JFK", None] * 25, "time_hour": times})
    expected = plain.historical(given_rows, "both", at="time_hour")
    pd.testing.assert_frame_equal(features.historical(given_rows, "both", at="time_hour"), expected)
    assert expected["sum_delay_1h"].nunique() > 3
    to = features.historical(given_rows, "both", at="time_hour", to=tmp_path / "out.parquet")
    assert pq.read_table(to)["sum_delay_1h"].to_pylist() == [
        None if pd.isna(v) else v for v in expected["sum_delay_1h"]
    ]


def test_how_far_it_is_is_told(applied: Features) -> None:
    times = pd.date_range("2013-01-01", periods=300_000, freq="s", tz="UTC")
    shares: list[float] = []
    applied.joined(pd.DataFrame({"origin": "JFK", "time_hour": times}), "delay", told=shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[-1] <= 1


def test_ctrl_c_stops_spark_too_and_nothing_is_left(applied: Features, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("themisto.features.engine._POLL_S", 0.01)
    times = pd.date_range("2013-01-01", periods=2_000_000, freq="s", tz="UTC")
    pd.DataFrame({"origin": "JFK", "time_hour": times}).to_parquet(tmp_path / "spine.parquet")
    stopped: list[float] = []

    def stop(share: float) -> None:
        if share > 0 and not stopped:
            stopped.append(share)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Failed, match="You stopped it"):
        applied.joined(tmp_path / "spine.parquet", "delay", to=tmp_path / "out.parquet", told=stop)
    assert stopped
    assert not list(tmp_path.glob("*out*"))
    assert list((tmp_path / "spill").iterdir()) == []
    assert session(ENGINE, Bounds()).sparkContext.statusTracker().getActiveJobsIds() == []
    frame = pd.DataFrame({"origin": ["LGA"], "time_hour": times[39_600:39_601]})
    assert applied.historical(frame, "delay")["temp"].tolist() == [2.0]


def test_files_that_executors_do_not_see_are_told(tmp_path, bounds) -> None:
    views, given_rows = of_two_entities(np.random.default_rng(5), 5)
    spec, files, by_name = laid(views, tmp_path)
    with pytest.raises(Failed, match="executors do not see") as told:
        point_in_time(given_rows, "at", spec, dict.fromkeys(files, tmp_path / "gone.parquet"), by_name, bounds=bounds)
    assert "THEMISTO_HOME" in told.value.remedy
    assert list(bounds.folder.iterdir()) == []


@pytest.mark.parametrize(
    "engine", ["spark", "spark+", "spark+host:7077", "spark+local[x]", "duckdb", "spark+spark://host"]
)
def test_what_is_no_engine_is_refused_with_the_right_form(bounds, applied: Features, tmp_path, engine) -> None:
    wrong = Features(Settings(url=None, home=tmp_path, features_engine=engine), None)
    frame = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01"])})
    with pytest.raises(Invalid, match=r"no engine of joins\. Write spark\+local\[2\] or spark\+spark://host:7077"):
        wrong.historical(frame, "delay")


@pytest.mark.parametrize(
    "master", ["local", "local[2]", "local[*]", "spark://a-b.example:7077", "spark://h1:7077,h2:7077"]
)
def test_masters_are_sparks_own(master) -> None:
    assert master_of(f"spark+{master}") == master


def test_another_master_than_the_kernels_is_a_conflict(bounds) -> None:
    with pytest.raises(Conflict, match=r"has a Spark session on local\[2\] already"):
        session("spark+local[1]", bounds)


def test_without_pyspark_the_extra_is_named(bounds, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(MissingSetting, match=r"pip install 'themisto\[spark\]'"):
        session(ENGINE, bounds)


def test_without_java_the_package_is_named(bounds, monkeypatch, tmp_path) -> None:
    from pyspark import SparkContext

    monkeypatch.setattr(SparkContext, "_active_spark_context", None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingSetting, match=r"Spark needs Java 17 or later.*apt-get install openjdk-17"):
        session(ENGINE, bounds)


def test_a_master_that_does_not_answer_is_told_at_once(bounds, monkeypatch) -> None:
    from pyspark import SparkContext

    monkeypatch.setattr(SparkContext, "_active_spark_context", None)
    with pytest.raises(Unavailable, match=r"No Spark master answers at spark://127\.0\.0\.1:1\."):
        session("spark+spark://127.0.0.1:1", bounds)


def test_the_lines_of_the_page_give_what_they_say(monkeypatch, tmp_path) -> None:
    from themisto import workbench

    text = (ROOT / "docs" / "feature-offline.md").read_text()
    for engine in re.findall(r"THEMISTO_FEATURES_ENGINE=(\S+)", text):
        master_of(engine)
    monkeypatch.delenv("THEMISTO_URL", raising=False)
    monkeypatch.setenv("THEMISTO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("THEMISTO_FEATURES_ENGINE", ENGINE)
    monkeypatch.setattr(workbench, "_current", None)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace: dict = {}
    lines = block.splitlines()
    exec("\n".join(line for line in lines if "# →" not in line), namespace)
    checked = [line.split("  # → ") for line in lines if "# →" in line]
    assert [repr(eval(code, namespace)) for code, _ in checked] == [given for _, given in checked]
    assert len(checked) == 2


def test_after_java_was_killed_the_next_join_starts_it_anew(applied: Features, capfd) -> None:
    from pyspark import SparkContext

    java = SparkContext._gateway.proc
    java.kill()
    java.wait(60)
    frame = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01 11:00"], utc=True)})
    assert applied.historical(frame, "delay")["temp"].tolist() == [1.5]
    assert SparkContext._gateway.proc is not java
    assert capfd.readouterr() == ("", "")
