"""The prediction log over the API: the owner's rows, and nobody else's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from themisto_hub.gateway.predictions import write_parquet


@pytest.fixture
def logged(plane, new_request):
    """An endpoint with two predictions in the log."""
    plane.upload(b"model")
    plane.call("POST", "/endpoints/credit/releases", json=new_request())
    plane.claimed_long_ago("credit")
    row = {
        "request_id": "a",
        "caller": "scientist",
        "endpoint": "credit",
        "release": "credit@1",
        "protocol": "http",
        "path": "/v2/models/credit/infer",
        "status": 200,
        "latency_ms": 1.5,
        "inputs": '{"x": [1.0]}',
        "outputs": '{"y": [2.0]}',
    }
    rows = [row | {"time": datetime(2026, 11, 1, 9, m, tzinfo=UTC), "request_id": str(m)} for m in (0, 1)]
    write_parquet(plane.settings.folder("gateway") / "predictions", "part", rows)


def test_newest_predictions_come_first_and_the_look_is_recorded(plane, logged):
    rows = plane.call("GET", "/endpoints/credit/log", params={"limit": 5}).json()
    assert [row["request_id"] for row in rows] == ["1", "0"]
    assert rows[0]["outputs"] == {"y": [2.0]}
    assert plane.audit(action="predictions.read")[0].outcome == "done"


def test_log_of_another_group_is_refused_and_recorded(plane, logged):
    assert plane.call("GET", "/endpoints/credit/log", "admin").status_code == 403
    assert plane.audit(action="predictions.read", outcome="refused")[0].actor == "admin"


def test_endpoint_without_predictions_has_an_empty_log(plane, new_request):
    plane.upload(b"model")
    plane.call("POST", "/endpoints/credit/releases", json=new_request())
    assert plane.call("GET", "/endpoints/credit/log").json() == []


def test_a_page_says_where_the_next_one_begins(plane, logged):
    first = plane.call("GET", "/endpoints/credit/log", params={"limit": 1, "bodies": False})
    assert ([row["request_id"] for row in first.json()], first.json()[0]["outputs"]) == (["1"], None)
    rest = plane.call("GET", "/endpoints/credit/log", params={"limit": 5, "after": first.headers["x-next"]})
    assert [row["request_id"] for row in rest.json()] == ["0"]
    assert "x-next" not in rest.headers


@pytest.mark.parametrize(
    "params", [{"only": "all"}, {"about": 0}, {"about": "credit@1"}, {"after": "nothing"}, {"limit": 501}]
)
def test_questions_that_make_no_sense_are_refused(plane, logged, params):
    assert plane.call("GET", "/endpoints/credit/log", params=params).status_code == 422


@pytest.mark.parametrize("path", ["shadow", "ab?metric=errors"])
def test_comparisons_are_the_groups_own(plane, logged, path):
    assert plane.call("GET", f"/endpoints/credit/{path}", "admin").status_code == 403
    assert plane.call("GET", f"/endpoints/nothing/{path}").status_code == 404


def test_what_cannot_be_compared_yet_is_a_problem_with_a_remedy(plane, logged):
    for path, status in (("shadow", 404), ("ab", 409)):
        answer = plane.call("GET", f"/endpoints/credit/{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["remedy"]
