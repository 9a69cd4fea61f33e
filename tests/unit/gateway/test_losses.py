"""Lines that a slow or full disk costs are counted; what could be read is never lost with them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from tests.fakes.access_log import raw_line
from tests.integration.gateway.reading import read

from themisto_hub.gateway import tail as module
from themisto_hub.gateway.predictions import losses
from themisto_hub.gateway.tail import Tail


def lines(count: int) -> str:
    now = str(datetime.now(UTC).timestamp())
    return "".join(
        raw_line({"time": now, "path": "/v2/models/credit/infer", "request_id": str(i)}) for i in range(count)
    )


def test_backlog_over_its_bound_is_given_up_and_counted(tmp_path, monkeypatch):
    """The folder of Parquet cannot be made: a file is in its place. Later it can."""
    monkeypatch.setattr(module, "_AFTER_FAILURE_S", 0.01)
    raw, parquet = tmp_path / "predictions.log", tmp_path / "predictions"
    parquet.write_text("in the way")
    raw.write_text(lines(100))
    tail = Tail(tmp_path, backlog_bytes=4096)
    stop = threading.Event()
    runner = threading.Thread(target=tail.run, args=(stop,))
    runner.start()
    try:
        for _ in range(500):
            if not raw.exists():  # moved aside: Envoy would open a new one
                raw.write_text(lines(3))
                break
            stop.wait(0.01)
        for _ in range(500):
            if not (tmp_path / "predictions.log.1").exists():
                break
            stop.wait(0.01)
        parquet.unlink()
        for _ in range(500):
            if read(parquet, "credit", 10):
                break
            stop.wait(0.02)
    finally:
        stop.set()
        runner.join(20)
    assert not runner.is_alive()
    assert len(read(parquet, "credit", 200)) == 3
    with raw.open("a") as more:
        more.write("{cut\n")
    tail.step(flush=True)
    counted = losses(parquet)
    assert (counted.dropped_lines, counted.unreadable_lines) == (100, 1)
    assert "100 lines given up, 1 lines unreadable; last at" in str(counted)


def test_unreadable_lines_are_counted_once_and_survive_a_restart(tmp_path):
    (tmp_path / "predictions.log").write_text("{cut\n" + lines(2) + "\x00\x00\n")
    for _ in range(3):
        Tail(tmp_path).step(flush=True)
    assert losses(tmp_path / "predictions").unreadable_lines == 2
    assert len(read(tmp_path / "predictions", "credit", 10)) == 2


def test_nothing_lost_says_so(tmp_path):
    counted = losses(tmp_path)
    assert not counted.any
    assert str(counted) == "nothing lost"


def test_raw_lines_do_not_outlive_their_time(tmp_path):
    raw = tmp_path / "predictions.log"
    raw.write_text(lines(5))
    tail = Tail(tmp_path, rotate_s=0)
    tail.step(flush=True)
    tail.step(flush=True)
    assert not raw.exists()  # moved aside, read out; Envoy opens a new one
    raw.write_text("")
    for _ in range(3):
        tail.step(flush=True)
    assert not (tmp_path / "predictions.log.1").exists()
    assert len(read(tmp_path / "predictions", "credit", 10)) == 5
