"""The owner is the hub's to write."""

import json

import pytest

from themisto.errors import Invalid, Refused
from themisto_hub.tracking_server.routes import is_open
from themisto_hub.tracking_server.stamp import carries_claims, stamped

CREATE = "/api/2.0/mlflow/runs/create"


def body(path, claims, query=""):
    return json.loads(stamped(path, query, json.dumps(claims).encode(), "scientist"))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"user_id": "root"},
        {"userId": "root"},
        {"tags": [{"key": "mlflow.user", "value": "root"}, {"key": "mlflow.user", "value": "other"}]},
    ],
)
def test_a_run_is_the_hubs_persons(claims):
    made = body(CREATE, claims)
    assert made["user_id"] == "scientist"
    assert "userId" not in made
    assert [t["value"] for t in made["tags"] if t["key"] == "mlflow.user"] == ["scientist"]


def test_other_tags_stay():
    assert {"key": "a", "value": "b"} in body(CREATE, {"tags": [{"key": "a", "value": "b"}]})["tags"]


@pytest.mark.parametrize(
    ("path", "claims", "query"),
    [
        ("/api/2.0/mlflow/runs/set-tag", {"key": "mlflow.user", "value": "x"}, ""),
        ("/api/2.0/mlflow/runs/log-batch", {"tags": [{"key": "mlflow.user", "value": "x"}]}, ""),
        ("/ajax-api/2.0/mlflow/model-versions/delete-tag", {}, "name=m&key=mlflow.user"),
        ("/api/2.0/mlflow/logged-models/m-1/tags/mlflow.user", {}, ""),
        ("/api/2.0/mlflow/logged-models/m-1/tags", {"tags": [{"key": "mlflow.user", "value": "x"}]}, ""),
    ],
)
def test_nobody_changes_an_owner(path, claims, query):
    assert carries_claims("POST", path)
    with pytest.raises(Refused, match=r"mlflow\.user"):
        body(path, claims, query)


@pytest.mark.parametrize("content", [b'"{}"', b"[]", b"nonsense", b'{"tags": {"mlflow.user": "x"}}', b"\xff\xfe"])
def test_what_is_not_one_object_is_refused(content):
    with pytest.raises(Invalid):
        stamped(CREATE, "", content, "scientist")


@pytest.mark.parametrize("name", ["artifact_location", "artifactLocation"])
def test_artifact_location_is_refused(name):
    with pytest.raises(Refused):
        body("/api/2.0/mlflow/experiments/create", {"name": "x", name: "file:///etc"})


@pytest.mark.parametrize(
    ("method", "path", "opened"),
    [
        ("POST", "/api/2.0/mlflow/runs/create", True),
        ("GET", "/static-files/static/js/main.js", True),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/a.txt", True),
        ("HEAD", "/", True),
        ("POST", "/api/2.0/mlflow/runs/create/", False),
        ("POST", "/api/2.0/mlflow//runs/create", False),
        ("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run", False),
        ("GET", "/static-files/../../etc/passwd", False),
        ("POST", "/api/3.0/mlflow/workspaces", False),
        ("DELETE", "/api/3.0/mlflow/workspaces/data-science", False),
        ("POST", "/gateway/x/mlflow/invocations", False),
        ("POST", "/api/2.0/mlflow/webhooks", False),
        ("PATCH", "/api/2.0/mlflow/users/update-admin", False),
        ("GET", "/api/2.0/mlflow/users/current\n", False),
    ],
)
def test_what_is_open(method, path, opened):
    assert is_open(method, path) is opened
