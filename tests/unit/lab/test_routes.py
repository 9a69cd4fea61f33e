"""What the panel may ask, and that nothing else gets through."""

import pytest

from themisto.errors import Refused
from themisto.serving.names import ENDPOINT_PATTERN
from themisto_lab.routes import _ENDPOINT, upstream_path

ID = "01JD7Z3K8Q4W5E6R7T8Y9V0ABC"


@pytest.mark.parametrize(
    ("method", "path", "upstream"),
    [
        ("GET", "discovery", "/.well-known/themisto"),
        ("GET", "endpoints", "/api/v1/endpoints"),
        ("GET", "endpoints/flight_delay", "/api/v1/endpoints/flight_delay"),
        ("POST", f"endpoints/credit/rollouts/{ID}/promote", f"/api/v1/endpoints/credit/rollouts/{ID}/promote"),
        ("POST", f"endpoints/credit/rollouts/{ID}/step", f"/api/v1/endpoints/credit/rollouts/{ID}/step"),
        ("POST", f"endpoints/credit.v2/rollouts/{ID}/pause", f"/api/v1/endpoints/credit.v2/rollouts/{ID}/pause"),
        ("POST", "endpoints/credit/rollback", "/api/v1/endpoints/credit/rollback"),
        ("POST", "endpoints/credit.v2/rollback", "/api/v1/endpoints/credit.v2/rollback"),
        ("POST", "endpoints/credit.v12/retire", "/api/v1/endpoints/credit.v12/retire"),
        ("POST", "endpoints/credit/offer/accept", "/api/v1/endpoints/credit/offer/accept"),
        ("GET", "endpoints/credit/callers", "/api/v1/endpoints/credit/callers"),
        ("GET", "endpoints/credit.v2/releases/17", "/api/v1/endpoints/credit.v2/releases/17"),
        ("GET", "endpoints/credit/log", "/api/v1/endpoints/credit/log"),
        ("GET", "endpoints/credit.v2/shadow", "/api/v1/endpoints/credit.v2/shadow"),
        ("GET", "endpoints/credit/ab", "/api/v1/endpoints/credit/ab"),
        ("GET", "predictions/losses", "/api/v1/predictions/losses"),
        ("GET", f"schedules/nightly/jobs/{ID}/output.ipynb", f"/api/v1/schedules/nightly/jobs/{ID}/output.ipynb"),
        ("POST", "schedules/nightly/pause", "/api/v1/schedules/nightly/pause"),
    ],
)
def test_what_the_panel_needs_is_passed_on(method, path, upstream):
    assert upstream_path(method, path) == (upstream, False)


def test_names_of_endpoints_are_what_the_control_plane_takes_for_names():
    assert _ENDPOINT == ENDPOINT_PATTERN


def test_only_events_are_a_stream():
    assert upstream_path("GET", "events") == ("/api/v1/events", True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "../../hub/api/users"),
        ("GET", "endpoints/../audit"),
        ("GET", "endpoints/credit/../../audit"),
        ("GET", "http://evil.example/"),
        ("GET", "//evil.example/endpoints"),
        ("GET", "endpoints\n"),
        ("GET", "endpoints/credit?x=1"),
        ("GET", "endpoints/Credit"),
        ("GET", "endpoints/credit/"),
        ("GET", "audit"),
        ("GET", "artifacts/" + "0" * 64),
        ("POST", "tokens"),
        ("POST", "endpoints"),
        ("POST", "endpoints/credit/releases"),
        ("GET", "endpoints/credit/releases/0"),
        ("GET", "endpoints/credit/releases/1/../../log"),
        ("GET", "endpoints/credit.v1"),
        ("POST", "endpoints/credit/log"),
        ("GET", "endpoints/credit/predictions"),
        ("POST", "endpoints/credit/free"),
        ("POST", "endpoints/credit.v2/offer/accept"),
        ("PUT", "endpoints/credit/offer"),
        ("POST", f"endpoints/credit/rollouts/{ID}/approvals"),
        ("POST", "schedules/nightly/delete"),
        ("DELETE", "schedules/nightly"),
        ("GET", f"schedules/nightly/jobs/{ID}/output.html"),
        ("GET", ""),
    ],
)
def test_all_else_is_refused(method, path):
    with pytest.raises(Refused):
        upstream_path(method, path)
