"""Point-in-time join of 1M entity rows with 5 views of 1M rows, 10 features, by integer and by text keys.

Each view has a time to live of a week, and a hundredth of its rows were created again later (ties). Ours, raw DuckDB
SQL and Feast on DuckDB read the same Parquet files and give a DataFrame. Ours and raw DuckDB must agree cell by cell,
Feast in the sums of all columns. Each side is a process of its own, they take turns, and what they took at most of
memory is theirs alone.
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


def ours(folder: Path, views: int) -> Callable[[], pd.DataFrame]:
    joined = service(folder, views)
    entities = pd.read_parquet(folder / "entities.parquet")
    return lambda: joined.historical(entities, "all", at="at")


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
    features.apply(who, *made, themisto.FeatureService("all", features=[v.name for v in made]))
    return features


def raw(folder: Path, views: int) -> Callable[[], pd.DataFrame]:
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
    sql = f"SELECT {columns} FROM e{joins} ORDER BY e.n"
    entities = pd.read_parquet(folder / "entities.parquet")
    entities["n"] = np.arange(len(entities))

    def work() -> pd.DataFrame:
        with duckdb.connect() as con:
            con.register("e", entities)
            found: pd.DataFrame = con.sql(sql).df()
            return found

    return work


def main() -> None:
    side, folder, views = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    work = {"ours": ours, "raw": raw}[side](folder, views)

    def asked(said: dict[str, Any]) -> dict[str, Any]:
        frame = work()
        if not said.get("keep"):
            return {}
        frame.filter(like="_").to_parquet(folder / f"{side}-kept.parquet")
        return {"kept": f"{side}-kept.parquet"}

    answer(asked)


if __name__ == "__main__":
    main()
