"""Every route of the control plane asks who calls; the few that do not are named here."""

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from themisto_hub.control.app import PREFIX, create_app
from themisto_hub.control.context import Control
from themisto_hub.settings import Deployment, Keys

PUBLIC = {f"{PREFIX}/.well-known/themisto", f"{PREFIX}/healthz", f"{PREFIX}/openapi.json"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    settings = Deployment(state=tmp_path_factory.mktemp("state"), port=31999)
    settings.folder("control").mkdir()
    return create_app(Control(settings, Keys(operator="secret")), workers=())


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def routes(app):
    """(method, path) of every route: from the document, which must hide none."""
    hidden = [
        route.path
        for included in app.routes
        for route in getattr(getattr(included, "original_router", None), "routes", [])
        if isinstance(route, APIRoute) and not route.include_in_schema
    ]
    assert not hidden
    document = app.openapi()["paths"]
    return [(method.upper(), path) for path, item in document.items() for method in item if path not in PUBLIC]


def test_there_are_routes_of_every_room(app):
    paths = {path for _, path in routes(app)}
    for part in ("endpoints", "features", "schedules", "audit", "tokens", "artifacts"):
        assert any(part in path for path in paths), part


def test_no_route_answers_without_a_token(app, client):
    answered = []
    for method, path in routes(app):
        url = path
        for name in [p[1:-1].partition(":")[0] for p in path.split("/") if p.startswith("{")]:
            url = url.replace("{" + name + "}", "x").replace("{" + name + ":path}", "x")
        response = client.request(method, url)
        if response.status_code not in (401, 403):
            answered.append(f"{method} {path}: {response.status_code}")
    assert not answered


def test_a_refusal_is_a_problem_document(client):
    response = client.get(f"{PREFIX}/api/v1/whoami")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:themisto:unauthenticated"
    assert response.json()["remedy"]


def test_discovery_is_public_and_holds_addresses_only(client):
    document = client.get(f"{PREFIX}/.well-known/themisto").json()
    assert set(document) == {"version", "gateway", "tracking", "review", "isolation", "demo"}
    assert "secret" not in str(document)
