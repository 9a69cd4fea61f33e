"""Point-in-time join of 1M entity rows with 5 views of 1M rows, 10 features, by integer and by text keys.

Each view has a time to live of a week, and a hundredth of its rows were created again later (ties). Ours, raw DuckDB
SQL and Feast on DuckDB read the same Parquet files and give a DataFrame. Ours and raw DuckDB must agree cell by cell,
Feast in the sums of all columns. Each side is a process of its own, they take turns, and what they took at most of
memory is theirs alone.

Then 10M entity rows in a file with 2 views of 10M rows, into a file, within 4 GiB, and once more within 1 GiB, where it
has to spill; raw DuckDB has the same bounds, and all three files have the same rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from tests.benchmarks.peers.asked import answer
from tests.benchmarks.record import Record
from tests.benchmarks.turns import FEAST, OURS, Side, in_turns, median

import themisto
from themisto.features.service import Features
from themisto.settings import Settings

ROWS, VIEWS, KEYS = 1_000_000, 5, 100_000
START = pd.Timestamp("2024-01-01", tz="UTC")
SPAN_S = 30 * 86400
TTL = "7d"
MEMORY_GIB = 2.0
ROUNDS = 5
LARGE, LARGE_VIEWS, LARGE_KEYS = 10_000_000, 2, 1_000_000
BOUND_GIB, TIGHT_GIB = 4.0, 1.0


def run(record: Record) -> None:
    for kind in ("int", "text"):
        with TemporaryDirectory() as name:
            folder = Path(name)
            make(folder, ROWS, VIEWS, KEYS, kind)
            with (
                Side(OURS, "-m", "tests.benchmarks.pit_join", "ours", folder, VIEWS) as ours,
                Side(OURS, "-m", "tests.benchmarks.pit_join", "raw", folder, VIEWS) as raw,
                Side(FEAST, "tests/benchmarks/peers/feast_join.py", folder, VIEWS) as feast,
            ):
                sides = {"ours": ours, "raw": raw, "feast": feast}
                found = in_turns(sides, ROUNDS, less={"feast": 2})
                agree(folder, raw.ask(keep=True), ours.ask(keep=True), found["feast"][0])
            work = "pit_join_1m_x5" + ("" if kind == "int" else "_text")
            record.add(f"{work}_s", "s", median(found["ours"]), median(found["raw"]), "raw DuckDB ASOF SQL")
            record.add(f"{work}_feast_s", "s", median(found["ours"]), median(found["feast"]), "Feast on DuckDB")
            peak = max(one["peak_gib"] for one in found["ours"])
            record.add(f"{work}_peak_gib", "GiB", peak, MEMORY_GIB, "the budget")
    _large(record)


def _large(record: Record) -> None:
    """One run each: they are long, and no figure of them is close to its bar."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, LARGE, LARGE_VIEWS, LARGE_KEYS, "int")
        with Side(OURS, "-m", "tests.benchmarks.pit_join", "ours", folder, LARGE_VIEWS):
            pass  # applied, by a process whose memory is not the join's
        found: dict[str, dict[str, Any]] = {}
        for key, side, gib in (
            ("raw", "raw", BOUND_GIB),
            ("ours", "ours", BOUND_GIB),
            ("tight", "ours", TIGHT_GIB),
        ):
            us = [OURS, "-m", "tests.benchmarks.pit_join", side, folder, LARGE_VIEWS]
            with Side(*us, gib, key) as process:
                found[key] = process.ask()
        same(*(folder / f"{key}.parquet" for key in found))
        ours, tight = found["ours"], found["tight"]
        record.add("pit_join_10m_x2_s", "s", ours["seconds"], found["raw"]["seconds"], "raw DuckDB ASOF SQL")
        record.add("pit_join_10m_x2_peak_gib", "GiB", ours["peak_gib"], BOUND_GIB, "the bound")
        record.add("pit_join_10m_x2_tight_s", "s", tight["seconds"], ours["seconds"], "ours within 4 GiB")
        record.add("pit_join_10m_x2_tight_peak_gib", "GiB", tight["peak_gib"], BOUND_GIB, "the bound of the other")
        spilled = tight["spilled_gib"], ours["spilled_gib"]
        record.add("pit_join_10m_x2_tight_spilled_gib", "GiB", *spilled, "within 4 GiB")


def same(*files: Path) -> None:
    """Raises AssertionError where files differ in a value or in the order of their rows."""
    names = pq.read_schema(files[0]).names
    differs = " OR ".join(f'a."{name}" IS DISTINCT FROM b."{name}"' for name in names)
    for other in files[1:]:
        assert pq.read_metadata(other).num_rows == pq.read_metadata(files[0]).num_rows
        both = f"'{files[0]}' a POSITIONAL JOIN '{other}' b"
        assert duckdb.execute(f"SELECT count(*) FROM {both} WHERE {differs}").fetchall() == [(0,)]


def make(folder: Path, rows: int, views: int, keys: int, kind: str) -> None:
    """`v0.parquet` … and `entities.parquet`; the key is `id`."""
    random = np.random.default_rng(7)

    def keyed(count: int) -> pd.DataFrame:
        ids = pd.Series(random.integers(0, keys, count), name="id")
        if kind == "text":
            ids = pd.Series("customer-" + np.arange(keys).astype("U7"), name="id")[ids].reset_index(drop=True)
        at = START + pd.to_timedelta(random.integers(0, SPAN_S * 10**6, count), unit="us")
        return pd.DataFrame({"id": ids, "at": at})

    for view in range(views):
        frame = keyed(rows - rows // 100).drop_duplicates(["id", "at"]).assign(created=lambda f: f["at"])
        again = frame.sample(rows - len(frame), random_state=view)
        frame = pd.concat([frame, again.assign(created=again["at"] + pd.Timedelta("1h"))], ignore_index=True)
        for feature in range(2):
            frame[f"f{view}_{feature}"] = random.normal(size=rows)
        frame.sample(frac=1, random_state=view).to_parquet(folder / f"v{view}.parquet", index=False)
    keyed(rows).to_parquet(folder / "entities.parquet", index=False)


def agree(folder: Path, raw: dict[str, Any], ours: dict[str, Any], feast: dict[str, Any]) -> None:
    """Raises AssertionError where the sides did not give the same answers."""
    expected, found = pd.read_parquet(folder / raw["kept"]), pd.read_parquet(folder / ours["kept"])
    for column in expected.columns:
        np.testing.assert_array_equal(found[column].to_numpy(), expected[column].to_numpy())
    np.testing.assert_allclose([feast["sums"][c] for c in expected.columns], [*expected.sum()], rtol=1e-9)


def ours(folder: Path, views: int, gib: float | None, to: Path | None) -> Callable[[], Any]:
    joined = service(folder, views, features_memory_gib=gib)
    spine = folder / "entities.parquet"
    if to is None:
        entities = pd.read_parquet(spine)
        return lambda: joined.historical(entities, "all", at="at")

    def work() -> dict[str, Any]:
        spilled = [0]

        def told(_share: float) -> None:
            files = [path for path in (folder / "home" / "spill").glob("*/*") if path.is_file()]
            spilled[0] = max(spilled[0], sum(path.stat().st_size for path in files))

        joined.joined(spine, "all", at="at", to=to, told=told)
        return {"spilled_gib": spilled[0] / 2**30}

    return work


def service(folder: Path, views: int, **settings: Any) -> Features:
    """The views and their service `all`, registered below the folder."""
    features = Features(Settings(url=None, home=folder / "home", **settings), None)
    who = themisto.Entity("who", keys=["id"])
    made = [
        themisto.FeatureView(
            f"v{n}",
            entity=who,
            at="at",
            created="created",
            ttl=TTL,
            features=[f"f{n}_0", f"f{n}_1"],
            source=folder / f"v{n}.parquet",
        )
        for n in range(views)
    ]
    if not features.registry.services():
        features.apply(who, *made, themisto.FeatureService("all", features=[v.name for v in made]))
    return features


def raw(folder: Path, views: int, gib: float | None, to: Path | None) -> Callable[[], Any]:
    """What a person would write who knows DuckDB, and about ties and the time to live."""
    joins = "".join(
        f" ASOF LEFT JOIN (SELECT * FROM '{folder}/v{n}.parquet' QUALIFY "
        'row_number() OVER (PARTITION BY id, "at" ORDER BY created DESC) = 1) '
        f"v{n} ON e.id = v{n}.id AND e.at >= v{n}.at"
        for n in range(views)
    )
    columns = ", ".join(
        f"CASE WHEN v{n}.at >= e.at - INTERVAL 7 DAY THEN v{n}.f{n}_{m} END AS f{n}_{m}"
        for n in range(views)
        for m in range(2)
    )
    if to is not None:
        spine = f"read_parquet('{folder}/entities.parquet', file_row_number = true)"
        sql = f"SELECT e.id, e.at, {columns} FROM {spine} e{joins} ORDER BY e.file_row_number"
        bounds = {"memory_limit": f"{gib}GiB", "temp_directory": str(folder / "spilled")}

        def copy() -> None:
            with duckdb.connect(config=bounds) as con:
                con.execute("SET TimeZone = 'UTC'")
                con.execute(f"COPY ({sql}) TO '{to}' (COMPRESSION zstd)")

        return copy
    entities = pd.read_parquet(folder / "entities.parquet")
    entities["n"] = np.arange(len(entities))

    def work() -> pd.DataFrame:
        with duckdb.connect() as con:
            con.register("e", entities)
            found: pd.DataFrame = con.sql(f"SELECT {columns} FROM e{joins} ORDER BY e.n").df()
            return found

    return work


def main() -> None:
    side, folder, views, *bounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]
    gib, to = (float(bounds[0]), folder / f"{bounds[1]}.parquet") if bounds else (None, None)
    work = {"ours": ours, "raw": raw}[side](folder, views, gib, to)

    def asked(said: dict[str, Any]) -> dict[str, Any]:
        found = work()
        if not said.get("keep"):
            return found if isinstance(found, dict) else {}
        found.filter(like="_").to_parquet(folder / f"{side}-kept.parquet")
        return {"kept": f"{side}-kept.parquet"}

    answer(asked)


if __name__ == "__main__":
    main()
