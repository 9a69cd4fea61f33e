"""A SQL cell sees what it names, and nothing else."""

from __future__ import annotations

import pandas as pd
import pytest

from themisto.errors import Invalid, NotFound, ThemistoError
from themisto.features.service import Features
from themisto.features.sql import query

FRAMES = {"flights": pd.DataFrame({"a": [1, 2]}), "secret": "text", "_hidden": pd.DataFrame({"a": [9]})}


def test_frames_and_views_are_tables(applied: Features) -> None:
    found = applied.query("SELECT f.a, count(*) AS n FROM flights f, weather w GROUP BY ALL ORDER BY a", FRAMES)
    assert found.to_numpy().tolist() == [[1, 3], [2, 3]]


def test_own_names_in_the_statement_are_no_tables() -> None:
    assert query("WITH secret AS (SELECT 1 AS x) SELECT * FROM secret", {})["x"].tolist() == [1]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '/tmp/themisto-out.csv'",
        "ATTACH '/tmp/themisto-out.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "CREATE TABLE t AS SELECT 1",
        "SELEKT 1",
        "",
    ],
)
def test_reaching_out_is_refused(sql: str) -> None:
    with pytest.raises(ThemistoError):
        query(sql, FRAMES)


@pytest.mark.parametrize("name", ["flight", "secret", "nowhere.table_"])
def test_unknown_table_is_told(name: str) -> None:
    with pytest.raises((NotFound, Invalid), match="no DataFrame and no view"):
        query(f"SELECT * FROM {name}", FRAMES)
