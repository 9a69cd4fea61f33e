"""Lines of the access log become rows, whatever a caller has sent."""

from __future__ import annotations

import base64
import json
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from tests.fakes.access_log import raw_line
from tests.integration.gateway.reading import read

from themisto_hub.gateway.line import NAMES, read_line
from themisto_hub.gateway.log import Tail
from themisto_hub.gateway.predictions import ADDED, compact, prediction, write_parquet
from themisto_hub.gateway.rights import deny_list

BODY = {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [[1.0], [2.0]]}]}


def line(**fields):
    usual = {
        "time": "1795252287.161941",
        "path": "/v2/models/credit/infer",
        "status": 200,
        "latency_ms": 3,
        "release": "credit@1",
        "caller": "scientist",
        "flags": "-",
        "request": base64.b64encode(json.dumps(BODY).encode()).decode(),
    }
    return usual | fields


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()


def test_line_of_an_inference_is_a_row():
    row = prediction(line())
    assert row["time"] == datetime(2026, 11, 21, 9, 11, 27, 161941, tzinfo=UTC)
    assert (row["endpoint"], row["release"], row["status"]) == ("credit", "credit@1", 200)
    assert json.loads(row["inputs"]) == {"x": [1.0, 2.0]}
    assert row["outputs"] is None


@pytest.mark.parametrize("path", ["/v2/models/credit", "/v2/health/ready", "/v2/models/credit/ready", None, "/x"])
def test_other_requests_are_no_rows(path):
    assert prediction(line(path=path)) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"inputs": 3}',
        b'{"inputs": [{"data": []}]}',
        b"\xff\xfe",
        b'{"inputs": [null]}',
        b"[" * 60_000,
    ],
)
def test_body_that_cannot_be_read_leaves_the_row(body):
    row = prediction(line(request=encoded(body)))
    assert row["inputs"] is None
    assert row["caller"] == "scientist"


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0\0", b"\0\0\0\0\x05hello", b"x"])
def test_grpc_body_that_cannot_be_read_leaves_the_row(body):
    path = "/inference.GRPCInferenceService/ModelInfer"
    row = prediction(line(path=path, endpoint="credit", request=encoded(body), grpc_status="13"))
    assert (row["protocol"], row["status"], row["endpoint"]) == ("grpc", 13, "credit")


def test_binary_tensors_are_read_by_their_sizes():
    head = {"inputs": [tensor("x", "FP32", 4), tensor("s", "BYTES", 6)]}
    text = json.dumps(head).encode()
    body = text + b"\0\0\x80?" + b"\2\0\0\0kr"
    row = prediction(line(request=encoded(body), header_length=str(len(text))))
    assert json.loads(row["inputs"]) == {"x": [1.0], "s": ["kr"]}


def tensor(name: str, datatype: str, size: int):
    return {"name": name, "shape": [1, 1], "datatype": datatype, "parameters": {"binary_data_size": size}}


def test_hours_are_compacted_once_even_if_cut_short(tmp_path):
    rows = [prediction(line(request_id=str(i))) for i in range(6)]
    for part in range(3):
        write_parquet(tmp_path, f"part-{part}", rows[2 * part : 2 * part + 2])
    hour = next(tmp_path.iterdir())
    kept = (hour / "part-0.parquet").read_bytes()
    compact(hour)
    assert [f.name for f in hour.iterdir()] == ["hour.parquet"]
    (hour / "part-0.parquet").write_bytes(kept)  # as if killed before it was deleted
    compact(hour)
    write_parquet(tmp_path, "part-9", [prediction(line(request_id="late"))])
    compact(hour)
    found = read(tmp_path, "credit", 100)
    assert sorted(row["request_id"] for row in found) == ["0", "1", "2", "3", "4", "5", "late"]


def test_newest_come_first_and_over_hours(tmp_path):
    for hours in range(3):
        moment = datetime(2026, 11, 21, 9, tzinfo=UTC) + timedelta(hours=hours)
        write_parquet(tmp_path, "part", [prediction(line(time=str(moment.timestamp()), request_id=str(hours)))])
    assert [row["request_id"] for row in read(tmp_path, "credit", 2)] == ["2", "1"]
    assert read(tmp_path, "other", 2) == []
    assert read(tmp_path / "nowhere", "credit", 2) == []


def test_lines_are_taken_once_by_a_tail_that_is_killed_at_any_time(tmp_path):
    raw = tmp_path / "predictions.log"
    lines = [raw_line(line(request_id=str(i))) for i in range(50)]
    lines.insert(20, "no line\n")
    with raw.open("w") as out:
        for number, text in enumerate(lines):
            out.write(text[: len(text) // 2])
            out.flush()
            Tail(tmp_path).step(flush=number % 3 == 0)  # each a new process, with nothing in memory
            out.write(text[len(text) // 2 :])
            out.flush()
    stop = threading.Event()
    stop.set()
    Tail(tmp_path).run(stop)
    assert sorted(int(r["request_id"]) for r in read(tmp_path / "predictions", "credit", 100)) == list(range(50))


def test_old_predictions_are_dropped(tmp_path):
    old = datetime.now(UTC) - timedelta(days=3)
    write_parquet(tmp_path / "predictions", "part", [prediction(line(time=str(old.timestamp())))])
    Tail(tmp_path, keep=timedelta(days=2)).step()
    assert read(tmp_path / "predictions", "credit", 10) == []


def test_line_of_a_shadow_and_of_a_fallback_say_so():
    shadow = prediction(line(shadow="1", release="credit@2", cluster="credit--2.http"))
    assert (shadow["shadow"], shadow["release"], shadow["chosen"]) == (True, "credit@2", "credit@2")
    fallen = prediction(line(fallback="earlier", release="credit@1", cluster="credit--2.grpc", feature_age_s="1.5"))
    assert (fallen["shadow"], fallen["fallback"], fallen["chosen"]) == (False, "earlier", "credit@2")
    assert fallen["feature_age_s"] == 1.5
    usual = prediction(line(feature_age_s="-"))
    assert (usual["shadow"], usual["fallback"], usual["chosen"], usual["feature_age_s"]) == (False, None, None, None)


def test_files_of_before_are_read_and_compacted_beside_new_ones(tmp_path):
    import pyarrow.parquet as pq

    write_parquet(tmp_path, "part-0", [prediction(line(request_id="old"))])
    (hour,) = tmp_path.iterdir()
    old = hour / "part-0.parquet"
    pq.write_table(pq.read_table(old).drop_columns(list(ADDED)), old)
    (alone,) = read(tmp_path, "credit", 10)
    assert {name: alone[name] for name in ADDED} == dict.fromkeys(ADDED) | {"shadow": False}
    write_parquet(tmp_path, "part-1", [prediction(line(request_id="new", fallback="default", shadow="1"))])
    before = sorted(read(tmp_path, "credit", 10), key=lambda r: r["request_id"])
    compact(hour)
    assert sorted(read(tmp_path, "credit", 10), key=lambda r: r["request_id"]) == before
    assert {(r["request_id"], r["fallback"], r["shadow"]) for r in before} == {
        ("old", None, False),
        ("new", "default", True),
    }


def test_line_of_envoy_is_read_field_by_field():
    told = line(request_id="one", endpoint="credit")
    assert {k: v for k, v in read_line(raw_line(told)[:-1].encode()).items() if v} == {
        k: str(v) for k, v in told.items()
    }


def test_line_of_what_was_refused_before_it_was_read_has_no_path():
    read = read_line("\r".join(["1795252287.0", *[""] * (len(NAMES) - 3)]).encode())
    assert (read["time"], read["path"], read["request"]) == ("1795252287.0", None, None)
    assert prediction(read) is None


@pytest.mark.parametrize("raw", [b"", b"{}", b"\r\r", b"\r" * 40])
def test_line_that_envoy_does_not_write_is_no_line(raw):
    with pytest.raises(ValueError, match="zip"):
        read_line(raw)


def test_no_field_can_hold_what_parts_fields():
    """As Envoy does it: headers with control characters are refused by its codecs, such callers by the deny list."""
    (policy,) = deny_list(())["rules"]["policies"].values()
    (principal,) = policy["principals"]
    pattern = principal["sourced_metadata"]["metadata_matcher"]["value"]["string_match"]["safe_regex"]["regex"]
    for name in ("a\rb", "a\nb", "\n", "a\x00", "\x7f"):
        assert re.fullmatch(pattern, name)
    for name in ("scientist", "service account/한국", "a b", ""):
        assert not re.fullmatch(pattern, name)
