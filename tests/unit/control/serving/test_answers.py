"""The log's rows, each once, whatever becomes of its files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from themisto_hub.control.serving.answers import AnswerLog, Rewritten
from themisto_hub.gateway.predictions import compact, hour_folder, write_parquet

SINCE = datetime(2026, 11, 1, 9, 10, tzinfo=UTC)


def row(second, release="credit@2", **change):
    usual = {"protocol": "http", "status": 200, "latency_ms": float(second), "endpoint": "credit", "path": "/"}
    return usual | {"time": SINCE + timedelta(seconds=second), "release": release} | change


@pytest.fixture
def log(tmp_path):
    return AnswerLog(tmp_path, "credit", candidate="credit@2", stable="credit@1", since=SINCE)


def seconds(answers):
    return [(a.time - SINCE).total_seconds() for a in answers]


def test_log_without_files_has_no_answers(log):
    assert list(log.new()) == log.before(10) == []


def test_each_row_comes_once(log, tmp_path):
    write_parquet(tmp_path, "part-1", [row(1), row(2, "credit@1")])
    assert [(a.arm, a.latency_ms) for a in log.new()] == [("candidate", 1.0), ("stable", 2.0)]
    write_parquet(tmp_path, "part-2", [row(3)])
    assert seconds(log.new()) == [3]
    assert list(log.new()) == []


def test_other_endpoints_releases_and_earlier_rows_are_left_out(log, tmp_path):
    others = [row(1, "credit@3"), row(1, endpoint="fraud"), row(1, None), row(-1)]
    write_parquet(tmp_path, "part-1", [*others, row(5)])
    assert seconds(log.new()) == [5]


def test_compaction_of_an_hour_gives_no_row_twice(log, tmp_path):
    write_parquet(tmp_path, "part-1", [row(1)])
    write_parquet(tmp_path, "part-2", [row(2)])
    assert len(list(log.new())) == 2
    compact(tmp_path / hour_folder(SINCE))
    write_parquet(tmp_path, "part-3", [row(3600)])
    assert seconds(log.new()) == [3600]


def test_hour_that_became_one_file_before_the_first_look_is_read_once(log, tmp_path):
    write_parquet(tmp_path, "part-1", [row(1)])
    hour = tmp_path / hour_folder(SINCE)
    part = (hour / "part-1.parquet").read_bytes()
    compact(hour)
    (hour / "part-1.parquet").write_bytes(part)  # cut short before it was removed
    assert seconds(log.new()) == [1]
    (hour / "part-1.parquet").unlink()
    assert list(log.new()) == []


def test_late_part_of_an_hour_that_is_one_file_already_is_read(log, tmp_path):
    write_parquet(tmp_path, "part-1", [row(1)])
    compact(tmp_path / hour_folder(SINCE))
    assert seconds(log.new()) == [1]
    write_parquet(tmp_path, "part-2", [row(2)])
    assert seconds(log.new()) == [2]
    compact(tmp_path / hour_folder(SINCE))
    assert list(log.new()) == []


def test_part_that_its_writer_wrote_again_makes_the_counts_void(log, tmp_path):
    write_parquet(tmp_path, "part-1", [row(1)])
    assert len(list(log.new())) == 1
    write_parquet(tmp_path, "part-1", [row(1), row(2)])
    with pytest.raises(Rewritten):
        list(log.new())


def test_part_that_went_into_an_hours_file_unseen_makes_the_counts_void(log, tmp_path):
    write_parquet(tmp_path, "part-1", [row(1)])
    assert len(list(log.new())) == 1
    write_parquet(tmp_path, "part-2", [row(2)])
    compact(tmp_path / hour_folder(SINCE))
    with pytest.raises(Rewritten):
        list(log.new())


def test_before_gives_stables_newest_answers_of_the_last_day(log, tmp_path):
    rows = [row(-s, "credit@1") for s in (30, 20, 10)] + [row(-5), row(1, "credit@1"), row(-90_000, "credit@1")]
    write_parquet(tmp_path, "part-1", rows)
    assert seconds(log.before(2)) == [-10, -20]
    assert len(log.before(10)) == 3


def test_release_that_was_chosen_counts_where_something_else_answered(log, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_parquet(tmp_path, "part-1", [row(1, "credit@1")])
    file = tmp_path / hour_folder(SINCE) / "part-1.parquet"
    table = pq.read_table(file)
    for name, value in (("chosen", "credit@2"), ("fallback", "earlier")):
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, pa.array([value]))
    pq.write_table(table, file)
    (answer,) = log.new()
    assert (answer.arm, answer.fallback, answer.failed) == ("candidate", "earlier", True)
