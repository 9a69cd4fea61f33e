"""The forwarding handler in a real Jupyter server: who gets through, what is passed on, what is said when not."""

import json
import time

import pytest
from tests.integration.lab.conftest import SERVER_TOKEN
from tests.jupyter import LOGIN

ID = "01JD7Z3K8Q4W5E6R7T8Y9V0ABC"


def test_the_answer_is_the_control_planes(control, jupyter):
    control.answer("endpoints", [{"name": "credit"}])
    with jupyter.client() as http:
        response = http.get("/themisto/api/endpoints")
    assert (response.status_code, response.json()) == (200, [{"name": "credit"}])


def test_the_servers_token_goes_upstream_and_the_persons_does_not(control, jupyter):
    control.answer("whoami", {"name": "scientist"})
    with jupyter.client(Cookie="secret=1") as http:
        http.get("/themisto/api/whoami")
    headers = control.asked[-1].headers
    assert headers["authorization"] == f"token {SERVER_TOKEN}"
    assert LOGIN not in json.dumps(headers)
    assert "cookie" not in headers


def test_without_a_login_nothing_is_asked(control, jupyter):
    before = len(control.asked)
    with jupyter.client(Authorization="") as http:
        for answer in (http.get("/themisto/api/whoami"), http.post("/themisto/api/schedules/nightly/run")):
            assert answer.status_code == 403
    assert len(control.asked) == before


def test_a_write_without_the_xsrf_token_is_refused(control, jupyter):
    control.answer("schedules/nightly/run", {"state": "waiting"})
    before = len(control.asked)
    with jupyter.browser() as (http, xsrf):
        refused = http.post("/themisto/api/schedules/nightly/run")
        assert (refused.status_code, len(control.asked)) == (403, before)
        assert refused.headers["Content-Type"] == "application/problem+json"
        done = http.post("/themisto/api/schedules/nightly/run", headers={"X-XSRFToken": xsrf})
    assert done.status_code == 200


def test_a_read_from_another_origin_is_refused(control, jupyter):
    with jupyter.browser() as (http, _):
        before = len(control.asked)
        response = http.get("/themisto/api/whoami", headers={"Origin": "http://evil.example"})
        assert response.status_code in (403, 404)
        assert "Access-Control-Allow-Origin" not in response.headers
    assert len(control.asked) == before


def test_a_write_carries_its_body_and_idempotency_key(control, jupyter):
    control.answer("endpoints/credit/rollback", {"name": "credit"})
    with jupyter.client() as http:
        http.post("/themisto/api/endpoints/credit/rollback", json={"reason": "x"}, headers={"Idempotency-Key": "k1"})
    asked = control.asked[-1]
    assert (asked.method, json.loads(asked.body), asked.headers["idempotency-key"]) == ("POST", {"reason": "x"}, "k1")


def test_only_arguments_on_the_list_are_passed_on(control, jupyter):
    control.answer("runs", [])
    with jupyter.client() as http:
        http.get("/themisto/api/runs", params={"limit": "5", "token": LOGIN, "1763720000": ""})
    assert control.asked[-1].query == "limit=5"


def test_a_page_of_the_log_says_where_the_next_one_begins(control, jupyter):
    control.answer("endpoints/credit/log", [], x_next="1763720000000000.0.r%2F1")
    with jupyter.client() as http:
        response = http.get("/themisto/api/endpoints/credit/log?only=failures&about=7&bodies=false&since=2020")
    assert response.headers["X-Next"] == "1763720000000000.0.r%2F1"
    assert control.asked[-1].query == "about=7&only=failures&bodies=false"


def test_a_forced_retirement_says_so_upstream_and_another_does_not(control, jupyter):
    control.answer("endpoints/credit.v2/retire", {"name": "credit.v2"})
    with jupyter.client() as http:
        http.post("/themisto/api/endpoints/credit.v2/retire")
        assert control.asked[-1].query == ""
        http.post("/themisto/api/endpoints/credit.v2/retire?force=true")
        assert control.asked[-1].query == "force=true"


@pytest.mark.parametrize(
    "path",
    [
        "audit",
        "endpoints/%2e%2e/audit",
        "endpoints/..%2faudit",
        "%2e%2e/%2e%2e/%2e%2e/hub/api/users",
        "http:%2f%2fevil.example",
        f"endpoints/credit/rollouts/{ID}/approvals",
    ],
)
def test_paths_off_the_list_never_leave_this_server(control, jupyter, path):
    before = len(control.asked)
    with jupyter.client() as http:
        for method in ("GET", "POST"):
            response = http.request(method, f"/themisto/api/{path}")
            assert (response.status_code, response.json()["type"]) == (403, "urn:themisto:refused")
    assert len(control.asked) == before


@pytest.mark.parametrize("path", ["endpoints/%00", "endpoints/%FF", "endpoints/" + "x" * 5000, "endpoints/credit%0A"])
def test_names_that_are_none_never_leave_this_server(control, jupyter, path):
    before = len(control.asked)
    with jupyter.client() as http:
        response = http.get(f"/themisto/api/{path}")
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["remedy"]
    assert len(control.asked) == before


@pytest.mark.parametrize("query", ["after=%FF", "after=%00", "limit=5&limit=many", "after=a%0D%0AX-Evil:%201"])
def test_hostile_paging_is_passed_on_as_one_value_or_refused(control, jupyter, query):
    control.answer("endpoints", [])
    before = len(control.asked)
    with jupyter.client() as http:
        response = http.get(f"/themisto/api/endpoints?{query}")
    assert response.status_code in (200, 422), response.text
    for asked in control.asked[before:]:
        assert "x-evil" not in asked.headers


@pytest.mark.parametrize("key", [b"\xff\xfe", b"x" * 5000])
def test_a_hostile_idempotency_key_is_no_failure_of_this_server(control, jupyter, key):
    control.answer("endpoints/credit/rollback", {"name": "credit"})
    with jupyter.client() as http:
        response = http.post("/themisto/api/endpoints/credit/rollback", json={}, headers={"Idempotency-Key": key})
    assert response.status_code < 500, response.text


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_method_that_the_panel_has_no_use_for_is_refused(control, jupyter, method):
    before = len(control.asked)
    with jupyter.client() as http:
        response = http.request(method, "/themisto/api/endpoints/credit")
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert len(control.asked) == before


def test_a_large_body_is_refused(control, jupyter):
    with jupyter.client() as http:
        response = http.post("/themisto/api/endpoints/credit/rollback", content=b"x" * 70_000)
    assert (response.status_code, response.json()["type"]) == (422, "urn:themisto:invalid")


def test_a_problem_of_the_control_plane_is_passed_on_as_it_is(control, jupyter):
    control.problem("endpoints/credit/rollback", 409, "conflict", "Nothing to go back to.", "Deploy first.")
    with jupyter.client() as http:
        response = http.post("/themisto/api/endpoints/credit/rollback")
    assert response.status_code == 409
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.json()["detail"], response.json()["remedy"]) == ("Nothing to go back to.", "Deploy first.")


def test_a_page_that_is_not_the_control_planes_is_never_passed_on(control, jupyter):
    for status, said in ((503, 503), (302, 503), (200, 503), (404, 404)):
        control.answer("budget", b"<html><script>alert(1)</script></html>", status=status, kind="text/html")
        with jupyter.client() as http:
            response = http.get("/themisto/api/budget")
        assert response.status_code == said
        assert response.headers["Content-Type"] == "application/problem+json"
        assert "script" not in response.text


def test_an_output_notebook_of_megabytes_comes_through_whole(control, jupyter):
    notebook = {"cells": [{"source": "x" * 5_000_000}]}
    control.answer(f"schedules/nightly/jobs/{ID}/output.ipynb", notebook, kind="application/x-ipynb+json")
    with jupyter.client() as http:
        response = http.get(f"/themisto/api/schedules/nightly/jobs/{ID}/output.ipynb")
    assert response.json() == notebook


def test_events_arrive_while_the_stream_is_open(control, jupyter):
    with jupyter.client() as http, http.stream("GET", "/themisto/api/events") as response:
        lines = response.iter_lines()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert _next_event(lines) == ("hello", {})
        control.publish("endpoint", {"name": "credit"})
        assert _next_event(lines) == ("endpoint", {"name": "credit"})


def test_a_browser_that_leaves_ends_the_stream_upstream(control, jupyter):
    _until(lambda: control.listening == 0)
    with jupyter.client() as http, http.stream("GET", "/themisto/api/events") as response:
        _next_event(response.iter_lines())
        assert control.listening == 1
    _until(lambda: control.listening == 0)


def test_an_open_panel_does_not_keep_an_idle_server_awake(control, jupyter):
    control.answer("whoami", {"name": "scientist"})
    with jupyter.client() as http:
        before = http.get("/api/status?no_track_activity=1").json()["last_activity"]
        time.sleep(0.05)
        http.get("/themisto/api/whoami")
        assert http.get("/api/status?no_track_activity=1").json()["last_activity"] == before


def test_a_control_plane_that_is_down_is_one_sentence_and_comes_back(control, jupyter):
    control.answer("whoami", {"name": "scientist"})
    with jupyter.client() as http:
        control.stop()
        try:
            response = http.get("/themisto/api/whoami")
            assert response.status_code == 503
            assert response.headers["Content-Type"] == "application/problem+json"
            assert response.json()["detail"] == "The control plane cannot be reached."
            assert http.get("/themisto/api/events").status_code == 503
        finally:
            control.start()
        assert http.get("/themisto/api/whoami").status_code == 200


def test_alone_it_says_which_setting_is_missing(lonely_jupyter):
    with lonely_jupyter.client() as http:
        response = http.get("/themisto/api/whoami")
    assert (response.status_code, response.json()["type"]) == (422, "urn:themisto:missing-setting")
    assert "THEMISTO_URL" in response.json()["detail"]


def _next_event(lines):
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            return kind, json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended")


def _until(condition, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)
