"""docs/observing.md does what it says: its SQL and Python are run, its lines parsed, its words those of the code."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from themisto.serving.magic import _LINE
from themisto.serving.observing_magic import VERBS
from themisto.serving.options import _FIELDS, batch_config
from themisto.serving.predictions import FACTS, rows
from themisto.serving.service import Serving

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "observing.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
LINES = sorted(set(re.findall(r"(?<!%)%deploy [^`|\n]+", TEXT)))


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The frame that `%deploy log credit --labels` gives, and what was exported of it."""
    monkeypatch.chdir(tmp_path)
    lines = [
        {
            "time": pd.Timestamp("2026-11-20T08:00", tz="UTC") + pd.Timedelta(minutes=40 * n),
            "request_id": f"r{n}",
            "key": "kim",
            "caller": "scientist",
            "release": f"credit@{7 + n // 2}",
            "status": 200,
            "latency_ms": 1.0 + n,
            "inputs": '{"age": [40], "income": [1000.0]}',
            "outputs": f'{{"score": [0.{n}]}}',
            "labels": '{"0": 1}',
        }
        for n in range(4)
    ]
    frame = rows(pa.Table.from_pylist(lines), lambda _: None)
    frame.to_parquet("log.parquet")
    Path("scores").mkdir()
    frame[["age", "score"]].to_parquet("scores/part-000000.parquet")
    return frame


def test_its_sql_runs_over_what_is_exported(log):
    answers = [duckdb.sql(sql).df().to_numpy().tolist() for kind, sql in BLOCKS if kind == "sql"]
    assert answers[0] == [["credit@7", 2, 1.5, 1.99], ["credit@8", 2, 3.5, 3.99]]
    assert [round(score, 3) for _, score in answers[1]] == [0.05, 0.2, 0.3]
    assert answers[2] == [[4, pytest.approx(0.15)]]


def test_its_python_runs(log):
    names = {"log": log, "pd": pd}
    for kind, code in BLOCKS:
        if kind == "python":
            exec(code, names)
    assert names["truth"].columns.tolist() == ["request_id", "row", "label"]
    assert (len(names["X"]), names["y"].tolist()) == (4, [1, 1, 1, 1])


@pytest.mark.parametrize("line", LINES)
def test_its_lines_are_understood(line):
    parsed = _LINE.parse_line(line.removeprefix("%deploy "))
    assert isinstance(parsed, argparse.Namespace)
    assert parsed.endpoint == "credit"


def test_it_shows_every_verb_with_its_method():
    rows_of_table = re.findall(r"^\| `%deploy (\w+) .*\| `(\w+)\(", TEXT, re.MULTILINE)
    assert {verb for verb, _ in rows_of_table} == set(VERBS)
    for _, method in rows_of_table:
        assert callable(getattr(Serving, method))


def test_it_names_the_columns_and_the_words_of_a_batch():
    listed = re.search(r"^Columns: (.*?); then", TEXT, re.MULTILINE)[1]
    assert tuple(re.findall(r"`(\w+)`", listed)) == FACTS
    words = re.findall(r"^\| `(\w+)` \|", TEXT.partition("| word | means |")[2].partition("## ")[0], re.MULTILINE)
    assert words == list(_FIELDS)
    example = re.search(r"`--batch (\S+)`", TEXT)[1]
    assert batch_config(example).preferred_batches == (16, 32)


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
