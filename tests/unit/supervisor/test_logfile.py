"""A log goes on where it can, and never takes the supervisor with it."""

from pathlib import Path

from themisto_hub.supervisor.logfile import LogFile


def test_lines_that_cannot_be_written_are_lost_and_told_once(tmp_path):
    told = []
    log = LogFile(tmp_path / "x.log", told.append)
    log({"data": b"first\n", "pid": 1})
    log._file.close()
    log._file = Path("/dev/full").open("a")  # noqa: SIM115 - what a full disk does
    for _ in range(3):
        log({"data": b"lost\n", "pid": 1})
    assert len(told) == 1
    assert "No space left on device" in told[0]
    log.close()
    log.open()
    log({"data": b"again\n", "pid": 1})
    assert (tmp_path / "x.log").read_text() == "first\nagain\n"


def test_a_full_log_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr("themisto_hub.supervisor.logfile._MAX_BYTES", 100)
    log = LogFile(tmp_path / "x.log", print)
    for number in range(50):
        log({"data": f"line {number}\n".encode(), "pid": 1})
    assert sorted(f.name for f in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
    assert "line 49" in (tmp_path / "x.log").read_text()
