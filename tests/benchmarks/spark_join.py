"""The join of `pit_join` by Spark on two cores, beside Spark SQL that joins one view after the other, and DuckDB.

All read the same files and write Parquet. Spark and DuckDB must agree cell by cell, the SQL in the sums of all columns.
Starting Spark, and its first join, are not counted: a kernel does both once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from tests.benchmarks.peers.asked import answer
from tests.benchmarks.pit_join import KEYS, ROWS, VIEWS, make, same, service
from tests.benchmarks.record import Record
from tests.benchmarks.turns import OURS, Side, in_turns, median

from themisto.features.engine import Bounds
from themisto.features.spark import session

ENGINE = "spark+local[2]"
ROUNDS = 3


def run(record: Record, rows: int = ROWS) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, rows, VIEWS, max(KEYS * rows // ROWS, 1), "int")
        with (
            Side(OURS, "-m", "tests.benchmarks.spark_join", "ours", folder, VIEWS) as ours,
            Side(OURS, "-m", "tests.benchmarks.spark_join", "here", folder, VIEWS) as here,
            Side(OURS, "-m", "tests.benchmarks.spark_join", "each", folder, VIEWS) as each,
        ):
            sides = {"ours": ours, "here": here, "each": each}
            in_turns(sides, 1)
            found = in_turns(sides, ROUNDS, less={"each": 1})
            same(folder / "ours.parquet", folder / "here.parquet")
            sums, expected = found["ours"][0]["sums"], found["each"][0]["sums"]
            assert sums.keys() == expected.keys()
            assert all(math.isclose(sums[c], expected[c], rel_tol=1e-9) for c in expected), (sums, expected)
        record.add("spark_join_s", "s", median(found["ours"]), median(found["each"]), "Spark SQL, a join a view")
        record.add("spark_join_over_duckdb_s", "s", median(found["ours"]), median(found["here"]), "ours by DuckDB")


def by(engine: str | None, to: Path, views: int) -> Callable[[], Path]:
    joined = service(to.parent, views, features_engine=engine)
    return lambda: joined.historical(to.parent / "entities.parquet", "all", at="at", to=to)


def each(to: Path, views: int) -> Callable[[], Path]:
    """What a person would write who knows Spark SQL, and about ties and the time to live."""
    folder = to.parent
    spark = session(ENGINE, Bounds(spill=folder / "spill"))
    spark.read.parquet(str(folder / "entities.parquet")).createOrReplaceTempView("e_")
    for n in range(views):
        spark.read.parquet(str(folder / f"v{n}.parquet")).createOrReplaceTempView(f"v{n}")
    with_n = "SELECT *, monotonically_increasing_id() AS n FROM e_"
    newest = [
        f"x{n} AS (SELECT e.n, max_by(struct(v.f{n}_0, v.f{n}_1), struct(v.at, v.created)) AS x FROM e JOIN v{n} v "
        f"ON e.id = v.id AND v.at <= e.at AND v.at >= e.at - INTERVAL 7 DAY GROUP BY e.n)"
        for n in range(views)
    ]
    columns = ", ".join(f"x{n}.x.f{n}_{m} AS f{n}_{m}" for n in range(views) for m in range(2))
    joins = " ".join(f"LEFT JOIN x{n} ON e.n = x{n}.n" for n in range(views))
    sql = f"WITH e AS ({with_n}), {', '.join(newest)} SELECT e.id, e.at, {columns} FROM e {joins} ORDER BY e.n"

    def work() -> Path:
        spark.sql(sql).write.mode("overwrite").parquet(str(to))
        return to

    return work


def main() -> None:
    side, folder, views = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    sys.path += map(str, Path(".venvs/spark").glob("lib/python3.*/site-packages"))
    to = folder / f"{side}.parquet"
    work = each(to, views) if side == "each" else by(ENGINE if side == "ours" else None, to, views)

    def asked(_: dict[str, Any]) -> dict[str, Any]:
        return {"sums": pd.read_parquet(work()).filter(like="_").sum().to_dict()}

    answer(asked)


if __name__ == "__main__":
    main()
