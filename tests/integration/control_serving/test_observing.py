"""The verbs that look at live traffic, from the DataFrame in a kernel to the control plane's database and log."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import duckdb
import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from themisto.client import ControlPlane
from themisto.errors import Conflict, Failed, Invalid, NotFound, Refused, Unavailable
from themisto.serving.observing import Observing
from themisto.serving.service import Serving
from themisto.settings import Settings
from themisto_hub.control.serving import prediction_log
from themisto_hub.control.serving.labelled import labelled
from themisto_hub.gateway.predictions import compact, write_parquet

START = datetime(2026, 11, 1, 9, 59, 30, tzinfo=UTC)


@pytest.fixture
def log(plane, new_request):
    """`log(rows…)` adds to the prediction log of an endpoint that is there."""
    plane.upload(b"model")
    plane.call("POST", "/endpoints/credit/releases", json=new_request())
    plane.claimed_long_ago("credit")
    folder = plane.settings.folder("gateway") / "predictions"
    parts = iter(range(100))

    def add(*rows):
        write_parquet(folder, f"part-{next(parts)}", rows)
        return folder

    return add


@pytest.fixture
def serving(plane):
    def of(person="scientist"):
        url = f"http://127.0.0.1:{plane.settings.ports.control}/services/themisto"
        settings = Settings(url=url, token=f"token-of-{person}")
        return Serving(settings, ControlPlane(settings), None)

    return of


def row(number, **fields):
    usual = {
        "time": START + timedelta(seconds=number),
        "request_id": f"r{number}",
        "caller": "scientist",
        "endpoint": "credit",
        "release": "credit@1",
        "key": f"k{number}",
        "protocol": "http",
        "path": "/v2/models/credit/infer",
        "status": 200,
        "latency_ms": 1.5,
        "inputs": json.dumps({"x": [float(number)]}),
        "outputs": json.dumps({"y": [2.0 * number]}),
    }
    return usual | fields


def with_shadows(folder, pairs):
    """A file with the columns of the newest version: each request's own answer, and the shadow's."""
    lines = []
    for number, theirs in pairs:
        lines.append(row(number, shadow=False, fallback=None, feature_age_s=None, trace_id="t"))
        shadow = {"shadow": True, "release": "credit@2", "outputs": json.dumps({"y": [theirs]}), "latency_ms": 4.0}
        lines.append(row(number, fallback=None, feature_age_s=None, trace_id="t") | shadow)
    table = pa.Table.from_pylist(lines)
    (folder / "2026-11-01T10").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "2026-11-01T10" / "new.parquet")


def test_log_is_a_frame_of_pages_newest_first(log, serving, plane, monkeypatch):
    folder = log(*[row(n) for n in range(60)])
    log(row(99, endpoint="other"))
    monkeypatch.setattr("themisto.serving.observing._PAGE", 7)
    found = serving().log("credit", limit=50)
    assert found.x.tolist() == [float(n) for n in range(59, 9, -1)]
    assert (found.y == 2 * found.x).all()
    assert not found.shadow.any()
    assert [r.after["limit"] for r in plane.audit(action="predictions.read")] == [7] * 7 + [1]
    compact(folder / "2026-11-01T10")
    assert serving().log(
        "credit", since=START + timedelta(seconds=20), until=START + timedelta(seconds=40)
    ).x.tolist() == [float(n) for n in range(39, 19, -1)]


def test_pages_end_at_their_bytes(log, serving, monkeypatch):
    log(*[row(n) for n in range(40)])
    monkeypatch.setattr(prediction_log, "_MAX_BYTES", 1000)
    monkeypatch.setattr(prediction_log, "_BATCH", 3)
    assert serving().log("credit", limit=40).x.tolist() == [float(n) for n in range(39, -1, -1)]


def test_requests_of_the_same_moment_are_each_there_once(log, serving, monkeypatch):
    log(*[row(n, time=START, request_id=name) for n, name in enumerate(["a.b", "b/é%", "c", None])])
    monkeypatch.setattr("themisto.serving.observing._PAGE", 1)
    assert sorted(serving().log("credit").x) == [0.0, 1.0, 2.0, 3.0]


def test_an_exported_log_is_read_by_duckdb(log, serving, tmp_path):
    log(*[row(n) for n in range(5)])
    file = tmp_path / "log.parquet"
    assert serving().export_log("credit", str(file)) == {"file": str(file), "rows": 5, "requests": 5}
    sql = f"SELECT release, count(*), sum(y) FROM '{file}' GROUP BY ALL"
    assert duckdb.sql(sql).fetchall() == [("credit@1", 5, 20.0)]
    with pytest.raises(Invalid, match="cannot be written"):
        serving().export_log("credit", str(tmp_path / "nowhere" / "log.parquet"))


def test_files_of_before_and_of_now_are_read_together(log, serving):
    folder = log(*[row(n) for n in range(40)])
    with_shadows(folder, [(40, 80.0), (41, 0.0)])
    found = serving().log("credit")
    assert found.x.tolist() == [float(n) for n in range(41, -1, -1)]
    assert found.trace_id.isna().tolist()[:3] == [False, False, True]


def test_shadow_compares_both_answers(log, serving, plane):
    with_shadows(log(row(0)), [(40, 80.0), (41, 0.0)])
    with plane.control.db.write() as session:
        from themisto_hub.control.serving.tables import EndpointRow

        session.get(EndpointRow, "credit").stable = 1
    found = serving().shadow("credit")
    assert found.x.tolist() == [41.0, 40.0]
    assert (found.y_shadow.tolist(), found.agrees.tolist()) == ([0.0, 80.0], [False, True])
    assert "50.0% agree" in found.attrs["summary"]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"limit": 0}, 422),
        ({"limit": 10_001}, 422),
        ({"since": "2026-11-01T10:00:00"}, 422),
        ({"after": "nothing"}, 422),
        ({"after": "1.2.x"}, 422),
        ({"rows": "all"}, 422),
    ],
)
def test_questions_that_make_no_sense_are_refused(log, plane, params, status):
    assert plane.call("GET", "/endpoints/credit/predictions", params=params).status_code == status


def test_the_log_is_its_groups_and_looks_are_recorded(log, serving, plane):
    with pytest.raises(NotFound):
        serving().log("nothing")
    assert plane.call("GET", "/endpoints/credit/predictions", "reviewer").status_code == 403
    answer = plane.call("GET", "/endpoints/credit/predictions", "admin")
    assert answer.status_code == 403
    with pytest.raises(Refused, match="belongs to the group"):
        Observing(serving("admin")._control, "credit").label(labels([0], [1]))
    refused = plane.audit(actor="admin", outcome="refused")
    assert [r.action for r in refused] == ["predictions.read", "labels.post"]


def test_an_unreadable_log_is_told(log, serving):
    folder = log(row(0))
    (folder / "2026-11-01T09" / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(Unavailable, match="cannot be read"):
        serving().log("credit")


def labels(numbers, values, **columns):
    return pd.DataFrame({"request_id": [f"r{n}" for n in numbers], "label": values, **columns})


def test_labels_are_joined_and_sent_again_change_nothing(log, serving, plane):
    log(*[row(n) for n in range(4)])
    assert serving().label("credit", labels([0, 1, 7], [1, 0, 1])) == {"labels": 3, "new": 3, "changed": 0}
    assert serving().endpoint("credit").label(labels([0, 1], [True, True])) == {"labels": 2, "new": 0, "changed": 1}
    found = serving().log("credit", labels=True).set_index("request_id")
    assert found.label.dropna().to_dict() == {"r0": 1.0, "r1": 1.0}
    events = plane.audit(action="labels.post")
    assert [e.after["new"] for e in events] == [3, 0]
    assert events[0].actor == "scientist"


def test_many_labels_go_in_parts_and_an_interrupt_says_how_far(log, serving, monkeypatch):
    monkeypatch.setattr("themisto.serving.observing._LABELS", 2)
    many = labels(range(5), [0, 1, 0, 1, 0])
    assert serving().label("credit", many)["new"] == 5
    observing = Observing(serving()._control, "credit")
    real, calls = observing._control.request, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(observing._control, "request", interrupted)
    with pytest.raises(Failed, match="after 2 of 5 labels"):
        observing.label(many)


def test_a_rows_label_goes_before_its_keys_and_a_keys_label_before_it_was_known(log, serving):
    two = {"inputs": '{"x": [1, 2]}', "outputs": '{"y": [1, 2]}', "key": "kim"}
    log(row(0, **two), row(10, **two), row(20, **two))
    frame = pd.DataFrame({"customer": ["kim"], "default": [0], "known_at": [START + timedelta(seconds=15)]})
    serving().label("credit", frame, on="customer", label="default")
    serving().label("credit", labels([10], [1], row=[1]))
    found = serving().log("credit", labels=True)
    assert found.request_id.tolist() == ["r20", "r20", "r10", "r10", "r0", "r0"]
    assert found.label.fillna(-1).tolist() == [-1, -1, 0, 1, 0, 0]


def test_labels_are_numbers_or_texts(log, serving):
    log(row(0))
    serving().label("credit", labels([0], ["fraud"]))
    assert serving().log("credit", labels=True).label.tolist() == ["fraud"]
    with pytest.raises(Conflict, match="are texts; these are numbers"):
        serving().label("credit", labels([1], [1]))


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ([1], "not a list"),
        (labels([], []), "no rows"),
        (labels([0], [1]).drop(columns="label"), "no column 'label'"),
        (labels([0], [1]).drop(columns="request_id"), "no column 'request_id'"),
        (labels([0, 1], [1, None]), "missing in some rows"),
        (labels([0, 1], [1, float("inf")]), "infinite"),
        (labels([0, 0], [1, 1]), "more than once"),
        (labels([0], [pd.Timestamp("2026-01-01")]), "cannot be kept"),
        (labels([0, 1], ["a", 1]), "mixes types"),
        (labels([0], ["x" * 1001]), "more than 1,000 characters"),
        (labels([0], [1], row=[-1]), "row number"),
        (labels([0], [1]).assign(request_id="x" * 257), "over 256"),
        (labels([0], [1]).assign(request_id=None), "missing in some rows"),
    ],
)
def test_labels_that_do_not_fit_are_told(log, serving, plane, frame, says):
    with pytest.raises(Invalid, match=says):
        serving().label("credit", frame)
    assert plane.audit(action="labels.post", outcome="done") == []


def parquet(**columns):
    file = io.BytesIO()
    pd.DataFrame(columns).to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    "body",
    [b"", b"PAR1", b"{}", parquet(id=["a"]), parquet(id=["a"], label=[1], more=[1]), b"x" * (16 * 2**20 + 1)],
)
def test_bodies_that_are_no_labels_are_refused(log, plane, body):
    answer = plane.call("POST", "/endpoints/credit/labels", content=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["remedy"]


def test_too_many_labels_at_once_are_refused_before_they_are_read(log, plane, monkeypatch):
    monkeypatch.setattr("themisto_hub.control.serving.labels.MAX_LABELS", 1)
    answer = plane.call("POST", "/endpoints/credit/labels", content=parquet(id=["a", "b"], label=[1, 2]))
    assert "several parts" in answer.text


def test_labelled_predictions_of_a_release_are_a_table_for_duckdb(log, serving, plane):
    folder = log(*[row(n) for n in range(30)], row(30, release="credit@9"))
    with_shadows(folder, [(40, 80.0)])
    assert labelled(plane.control, "credit", 1).num_rows == 0
    serving().label("credit", labels([3, 5, 30, 40], [1, 0, 1, 1]))
    known = labelled(plane.control, "credit", 1)
    assert known.column_names == ["time", "request_id", "row", "key", "x", "y", "label"]
    found = duckdb.sql("SELECT request_id, y, label FROM known ORDER BY time").fetchall()
    assert found == [("r3", 6.0, 1.0), ("r5", 10.0, 0.0), ("r40", 80.0, 1.0)]
    with pytest.raises(NotFound):
        labelled(plane.control, "credit", 2)


def test_ab_reads_its_exposures_from_the_log(log, serving, plane, deploy):
    from themisto_hub.control.serving.records import latest_rollout
    from themisto_hub.control.serving.tables import EndpointRow

    deploy(plane, 2.0, name="offer")
    plane.claimed_long_ago("offer")
    with plane.control.db.write() as session:
        rollout = latest_rollout(session, "offer")
        rollout.state, rollout.strategy, rollout.weight_pct, rollout.release = "running", "ab", 50, 1
        rollout.created_at = START
        endpoint = session.get(EndpointRow, "offer")
        endpoint.candidate, endpoint.weight_pct, endpoint.strategy = 1, 50, "ab"
    log(*[row(n, endpoint="offer", release=f"offer@{1 + n % 2}") for n in range(-5, 200)])
    metric = pd.DataFrame({"request_id": [f"r{n}" for n in range(200)], "bought": [n % 2 for n in range(200)]})
    found = serving().ab("offer", metric)
    assert (found.treatment.release, found.control.release) == ("offer@1", "offer@2")
    assert (found.treatment.mean, found.control.mean) == (0.0, 1.0)
    assert (found.treatment.exposed, found.control.exposed, found.share_pct) == (100, 100, 50)
    assert not found.uneven
    with pytest.raises(Invalid, match="2 columns beside"):
        serving().ab("offer", metric.assign(more=1))
    with pytest.raises(Conflict, match="Nothing of 'credit'"):
        serving().ab("credit", metric)


def test_a_bench_of_nobodys_or_of_nothing_is_refused(log, plane):
    answer = plane.call("POST", "/endpoints/credit/benches", "admin", json={})
    assert answer.status_code == 403
    assert plane.audit(action="bench.start", outcome="refused")[0].actor == "admin"
    assert plane.call("POST", "/endpoints/credit/benches", json={"release": 7}).status_code == 404
    assert plane.call("POST", "/endpoints/credit/benches", json={"seconds": 1}).status_code == 422
    nothing = plane.call("GET", "/endpoints/credit/benches/01JD0000000000000000000000")
    assert isinstance(nothing, httpx.Response)
    assert nothing.status_code == 404
