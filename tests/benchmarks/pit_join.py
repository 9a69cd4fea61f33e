"""Point-in-time join of 1M entity rows with 5 views of 1M rows, 10 features: ours, raw DuckDB, Feast on DuckDB.

All three read the same Parquet files and give a DataFrame; ours and raw DuckDB must agree cell by cell.
"""

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pandas as pd
from tests.benchmarks.record import Record, median_s

import themisto
from themisto.features.service import Features
from themisto.settings import Settings

ROWS, VIEWS, KEYS = 1_000_000, 5, 100_000
START = pd.Timestamp("2024-01-01", tz="UTC")
SPAN_S = 30 * 86400


def run(record: Record) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        entities = make(folder)
        features, raw = ours(folder, entities), raw_duckdb(folder)
        joined, expected = features(), raw()
        for column in expected.columns:
            np.testing.assert_array_equal(joined[column].to_numpy(), expected[column].to_numpy())
        taken = median_s(features, runs=3, warm=0)
        record.add("pit_join_1m_x5_s", "s", taken, median_s(raw, runs=3, warm=0), "raw DuckDB ASOF SQL")
        record.add("pit_join_1m_x5_feast_s", "s", taken, feast(folder), "Feast on DuckDB")


def make(folder: Path) -> pd.DataFrame:
    random = np.random.default_rng(7)
    for view in range(VIEWS):
        moments = START + pd.to_timedelta(random.integers(0, SPAN_S * 10**6, ROWS), unit="us")
        frame = pd.DataFrame({"id": random.integers(0, KEYS, ROWS), "at": moments})
        for feature in range(2):
            frame[f"f{view}_{feature}"] = random.normal(size=ROWS)
        frame.drop_duplicates(["id", "at"]).to_parquet(folder / f"v{view}.parquet")
    moments = START + pd.to_timedelta(random.integers(0, SPAN_S * 10**6, ROWS), unit="us")
    entities = pd.DataFrame({"id": random.integers(0, KEYS, ROWS), "at": moments})
    entities.to_parquet(folder / "entities.parquet")
    return entities


def ours(folder: Path, entities: pd.DataFrame):
    service = Features(Settings(url=None, home=folder / "home"), None)
    who = themisto.Entity("who", keys=["id"])
    views = [
        themisto.FeatureView(
            f"v{n}", entity=who, at="at", features=[f"f{n}_0", f"f{n}_1"], source=folder / f"v{n}.parquet"
        )
        for n in range(VIEWS)
    ]
    service.apply(who, *views, themisto.FeatureService("all", features=[v.name for v in views]))
    return lambda: service.historical(entities, "all", at="at")


def raw_duckdb(folder: Path):
    joins = "".join(
        f" ASOF LEFT JOIN '{folder}/v{n}.parquet' v{n} ON e.id = v{n}.id AND e.at >= v{n}.at" for n in range(VIEWS)
    )
    columns = ", ".join(f"v{n}.f{n}_0, v{n}.f{n}_1" for n in range(VIEWS))
    sql = f"SELECT e.id, e.at, {columns} FROM e{joins} ORDER BY e.n"

    def work() -> pd.DataFrame:
        with duckdb.connect() as connection:
            source = (
                f"SELECT *, file_row_number AS n FROM read_parquet('{folder}/entities.parquet', file_row_number = true)"
            )
            connection.execute(f"CREATE VIEW e AS {source}")
            return connection.sql(sql).df().drop(columns=["id", "at"])

    return work


def feast(folder: Path) -> float:
    command = [".venvs/feast/bin/python", "tests/benchmarks/peers/feast_join.py", str(folder), str(VIEWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])
