"""Who gets in, where to, and whose name stands on what they make."""

import json
import subprocess
import sys

import httpx
import pytest

RUNS = "/api/2.0/mlflow/runs"
ROUTES = """
import json, sys
from fastapi.routing import APIRoute
from themisto_hub.settings import Deployment
from themisto_hub.tracking_server.mlflow_app import create_mlflow

app = create_mlflow(Deployment(state=sys.argv[1]))
from mlflow.server import app as flask_app

found = [[sorted(r.methods - {"HEAD", "OPTIONS"}), r.rule] for r in flask_app.url_map.iter_rules()]
def walk(routes, prefix):
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            walk(router.routes, prefix + route.include_context.prefix)
        elif isinstance(route, APIRoute):
            found.append([sorted(route.methods), prefix + route.path])
walk(app.routes, "")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """Every (method, path) that MLflow serves, Flask's and FastAPI's, with parameters filled in."""
    done = subprocess.run(
        [sys.executable, "-c", ROUTES, str(tmp_path_factory.mktemp("routes"))],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return sorted({(method, _filled(path)) for methods, path in found for method in methods})


def _filled(path):
    parts = [("x" if part.startswith(("<", "{")) else part) for part in path.split("/")]
    return "/".join(parts)


def test_every_route_of_mlflow_is_closed_to_the_unknown(server, routes):
    assert len(routes) > 300
    assert any(path.startswith("/gateway/") for _, path in routes), "FastAPI's routes are among them"
    with httpx.Client(base_url=server.url, timeout=30) as http:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YWRtaW46cGFzc3dvcmQ="}):
            some = routes if not headers else routes[::25]
            answers = {(m, p): http.request(m, p, headers=headers).status_code for m, p in some if p != "/health"}
            let_in = {route: status for route, status in answers.items() if status not in (401, 403)}
            let_in.pop(("GET", "/"), None)  # sends a browser to the hub's login
            assert not let_in


def test_what_is_not_on_the_list_is_closed_to_people_too(server, routes):
    from themisto_hub.tracking_server.routes import is_open

    closed = [(m, p) for m, p in routes if not is_open(m, p) and p != "/health"]
    for family in ("/gateway/", "webhooks", "/users/create", "/roles/", "assistant", "/jobs", "promptlab", "/signup"):
        assert any(family in path for _, path in closed), family
    with server.api("admin") as http:
        assert {http.request(m, p).status_code for m, p in closed} == {403}


def test_outside_the_prefix_there_is_nothing(server):
    root = server.url.removesuffix("/services/tracking")
    for path in ("/", "/api/2.0/mlflow/experiments/search", "/health", "/services/tracking/../other"):
        assert httpx.get(f"{root}{path}").status_code == 401


def test_a_forged_identity_header_is_ignored(server):
    for name in ("X-Themisto-User", "X_Forwarded_User", "X-MLflow-Authorization", "Remote-User"):
        assert httpx.get(f"{server.url}/api/2.0/mlflow/users/current", headers={name: "admin"}).status_code == 401


def test_two_groups_do_not_see_each_other(tracking_of, server):
    scientist, reviewer = tracking_of("scientist").connection, tracking_of("reviewer").connection
    with server.api("scientist") as mine, server.api("reviewer") as theirs:
        made = mine.post("/api/2.0/mlflow/experiments/create", json={"name": "secret plans"}).json()
        run = mine.post(f"{RUNS}/create", json={"experiment_id": made["experiment_id"]}).json()["run"]["info"]
        path = run["artifact_uri"].removeprefix("mlflow-artifacts:")
        upload = f"/api/2.0/mlflow-artifacts/artifacts{path}/a.txt"
        assert mine.put(upload, content=b"plan A").status_code == 200
        assert mine.get(upload).text == "plan A"

        assert scientist.workspace != reviewer.workspace
        for answer in (
            theirs.get(f"{RUNS}/get", params={"run_id": run["run_id"]}),
            theirs.post(f"{RUNS}/log-metric", json={"run_id": run["run_id"], "key": "a", "value": 1, "timestamp": 1}),
            theirs.post(f"{RUNS}/delete", json={"run_id": run["run_id"]}),
            theirs.post(f"{RUNS}/create", json={"experiment_id": made["experiment_id"]}),
            theirs.get("/api/2.0/mlflow/experiments/get", params={"experiment_id": made["experiment_id"]}),
            theirs.get("/get-artifact", params={"run_uuid": run["run_id"], "path": "a.txt"}),
            theirs.get(upload),
            theirs.put(upload, content=b"plan B"),
            theirs.delete(upload),
            theirs.get(f"{RUNS}/get", params={"run_id": run["run_id"]}, headers={"X-MLFLOW-WORKSPACE": "data-science"}),
            theirs.get(f"{RUNS}/get", params={"run_id": run["run_id"], "workspace": "data-science"}),
        ):
            assert answer.status_code in (403, 404), answer.text
        names = [
            e["name"]
            for e in theirs.post("/api/2.0/mlflow/experiments/search", json={"max_results": 100})
            .json()
            .get("experiments", [])
        ]
        assert "secret plans" not in names
        graphql = {
            "query": f'{{ mlflowGetRun(input: {{runId: "{run["run_id"]}"}}) {{ run {{ info {{ runName }} }} }} }}'
        }
        assert run["run_name"] not in theirs.post("/graphql", json=graphql).text
        assert mine.get(upload).text == "plan A"


def test_a_colleague_adds_to_the_groups_experiments_and_cannot_delete_them(server):
    with server.api("scientist") as mine, server.api("colleague") as theirs:
        made = mine.post("/api/2.0/mlflow/experiments/create", json={"name": "shared"}).json()["experiment_id"]
        run = theirs.post(f"{RUNS}/create", json={"experiment_id": made})
        assert run.status_code == 200
        assert theirs.post("/api/2.0/mlflow/experiments/delete", json={"experiment_id": made}).status_code == 403
        assert mine.post("/api/2.0/mlflow/experiments/delete", json={"experiment_id": made}).status_code == 200


def test_admins_manage_every_workspace(server):
    with server.api("scientist") as mine, server.api("admin", "data-science") as theirs:
        made = mine.post("/api/2.0/mlflow/experiments/create", json={"name": "old"}).json()["experiment_id"]
        assert theirs.post("/api/2.0/mlflow/experiments/delete", json={"experiment_id": made}).status_code == 200


def test_a_person_without_groups_has_no_workspace(server):
    with server.api("visitor") as http:
        answer = http.post("/api/2.0/mlflow/experiments/search", json={"max_results": 1})
    assert answer.status_code == 403
    assert "visitor is not in the group" in answer.json()["message"]


def test_the_hubs_name_is_the_owner_whatever_the_client_claims(server):
    with server.api("scientist") as http:
        made = http.post(
            "/api/2.0/mlflow/experiments/create",
            json={"name": "owned", "tags": [{"key": "mlflow.user", "value": "root"}]},
        ).json()["experiment_id"]
        for claim in ({"user_id": "root"}, {"userId": "root"}, {"tags": [{"key": "mlflow.user", "value": "root"}]}):
            run = http.post(f"{RUNS}/create", json={"experiment_id": made, **claim}).json()["run"]
            assert {t["key"]: t["value"] for t in run["data"]["tags"]}["mlflow.user"] == "scientist"
            assert run["info"]["user_id"] == "scientist"
        run_id = run["info"]["run_id"]
        tag = {"key": "mlflow.user", "value": "root"}
        for path, body in (
            (f"{RUNS}/set-tag", {"run_id": run_id, **tag}),
            (f"{RUNS}/delete-tag", {"run_id": run_id, **tag}),
            (f"{RUNS}/log-batch", {"run_id": run_id, "tags": [tag]}),
            ("/api/2.0/mlflow/experiments/set-experiment-tag", {"experiment_id": made, **tag}),
        ):
            answer = http.post(path, json=body)
            assert answer.status_code == 403, path
            assert "mlflow.user" in answer.json()["message"]
        doubly = json.dumps(json.dumps({"run_id": run_id, **tag}))
        assert (
            http.post(f"{RUNS}/set-tag", content=doubly, headers={"Content-Type": "application/json"}).status_code
            == 400
        )
        twice = json.dumps({"run_id": run_id, "key": "mood"})[:-1] + ', "key": "mlflow.user", "value": "root"}'
        http.post(f"{RUNS}/set-tag", content=twice, headers={"Content-Type": "application/json"})
        kept = http.get(f"{RUNS}/get", params={"run_id": run_id}).json()["run"]["data"]["tags"]
        assert {t["key"]: t["value"] for t in kept}["mlflow.user"] == "scientist"


def test_model_versions_carry_the_hubs_name_and_aliases_work(tracking_of):
    from sklearn.linear_model import LogisticRegression

    tracking = tracking_of("scientist")
    uri = tracking.log_version(
        "owned-model", LogisticRegression().fit([[0], [1]], [0, 1]), tags={"mlflow.user": "root"}
    )
    client = tracking.connection.client
    version = client.get_model_version_by_alias("owned-model", "candidate")
    assert uri == f"models:/owned-model/{version.version}"
    assert version.tags["mlflow.user"] == "scientist"
    tracking.set_alias(uri, "champion")
    assert client.get_model_version_by_alias("owned-model", "champion").version == version.version
    logged = client.search_logged_models([tracking.connection.experiment_id("deployments")])
    assert {model.tags["mlflow.user"] for model in logged} == {"scientist"}


def test_where_artifacts_lie_is_not_the_clients_choice(server):
    with server.api("scientist") as http:
        for name, claim in (
            ("by-name", {"artifact_location": "file:///etc"}),
            ("camel", {"artifactLocation": "file:///etc"}),
        ):
            answer = http.post("/api/2.0/mlflow/experiments/create", json={"name": name, **claim})
            assert answer.status_code == 403
        made = http.post("/api/2.0/mlflow/experiments/create", json={"name": "mine"}).json()["experiment_id"]
        run = http.post(f"{RUNS}/create", json={"experiment_id": made}).json()["run"]["info"]
        assert run["artifact_uri"].startswith("mlflow-artifacts:/workspaces/data-science/")
        http.post("/api/2.0/mlflow/registered-models/create", json={"name": "leak"})
        for source in ("/etc", "file:///etc", "mlflow-artifacts:/../../etc"):
            body = {"name": "leak", "source": source, "run_id": run["run_id"]}
            assert http.post("/api/2.0/mlflow/model-versions/create", json=body).status_code in (400, 403)
        for path in ("..%2f..%2fmlflow.db", "../../mlflow.db", "workspaces/model-risk/x"):
            assert http.get(f"/api/2.0/mlflow-artifacts/artifacts/{path}").status_code in (400, 403, 404), path


def test_who_leaves_a_group_loses_its_workspace(server):
    token = server.hub.add("mover", ["data-science"], token="mover-1")
    with server.api("mover", "data-science", token) as http:
        made = http.post("/api/2.0/mlflow/experiments/create", json={"name": "left behind"}).json()["experiment_id"]
    server.hub.add("mover", ["model-risk"], token="mover-2")
    with server.api("mover", token="mover-2") as http:
        answer = http.get("/api/2.0/mlflow/experiments/get", params={"experiment_id": made})
        assert answer.status_code in (403, 404)
        there = http.get(
            "/api/2.0/mlflow/experiments/get",
            params={"experiment_id": made},
            headers={"X-MLFLOW-WORKSPACE": "data-science"},
        )
        assert there.status_code == 403


def test_identities_are_kept_and_outlive_a_hub_that_is_away(server):
    with server.api("scientist") as http:
        search = {"url": "/api/2.0/mlflow/experiments/search", "json": {"max_results": 1}}
        assert http.post(**search).status_code == 200
        asked = server.hub.asked
        for _ in range(5):
            http.post(**search)
        assert server.hub.asked - asked <= 1
        server.hub.stop()
        try:
            assert http.post(**search).status_code == 200
            with server.api("stranger", token="never-seen") as stranger:
                answer = stranger.post(**search)
            assert answer.status_code == 503
            assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
        finally:
            server.hub.start()


def test_the_pages_are_served_below_the_prefix(server):
    with server.api("scientist") as http:
        page = http.get("/")
        assert page.status_code == 200
        assert 'src="static-files/' in page.text
        script = page.text.partition('src="')[2].partition('"')[0]
        assert http.get(f"/{script}").status_code == 200
        assert http.get("/ajax-api/2.0/mlflow/experiments/search", params={"max_results": 5}).status_code == 200
        assert httpx.get(server.url, follow_redirects=False).headers["location"] == "/services/tracking/"


def test_a_browser_whose_session_has_ended_is_sent_to_the_hub(server):
    for cookies in ({}, {"themisto-tracking": "of-yesterday"}):
        with httpx.Client(base_url=server.url, cookies=cookies) as http:
            page = http.get("/")
            assert page.status_code == 302
            assert "/hub/api/oauth2/authorize?client_id=service-tracking" in page.headers["location"]
            assert http.get("/ajax-api/3.0/mlflow/workspaces").status_code == 401
