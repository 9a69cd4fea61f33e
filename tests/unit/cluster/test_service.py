"""What the control plane renders is what it has stored; whoever asks is known; each asking leaves a trace."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import text
from tests.unit.cluster.plans import DIGEST
from tests.unit.control.serving.conftest import MODEL, World

from themisto.errors import Conflict, Invalid, NotFound, Refused
from themisto.serving.rollout import RolloutRequest
from themisto_hub.cluster.capabilities import WAIVABLE
from themisto_hub.cluster.pull import ARTIFACT_KEY
from themisto_hub.cluster.service import Clusters
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.control.app import PREFIX, create_app
from themisto_hub.control.context import Control
from themisto_hub.settings import Keys

ROOT = Path(__file__).resolve().parents[3]
SHA = hashlib.sha256(MODEL).hexdigest()
LOST = ("fallback", "prediction-log")
PINNED = {"triton_image": f"tritonserver{DIGEST}", "puller_image": f"themisto{DIGEST}"}


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    made = World(tmp_path / "state", profiles_dir=ROOT / "profiles")
    yield made
    made.control.close()


@pytest.fixture
def clusters(world) -> Clusters:
    return Clusters(world.control, ClusterSettings(**PINNED))


def operator(world):
    return world.caller("operator", "none", scopes=())


def weights(rendering) -> dict[str, int]:
    found = yaml.safe_load_all(rendering.text)
    (service,) = [one for one in found if one["kind"] == "VirtualService"]
    return {share["destination"]["subset"]: share["weight"] for share in service["spec"]["http"][0]["route"]}


def test_canary_is_rendered_with_its_weight(world, clusters):
    world.live(cell="a")
    world.live(cell="b", rollout=RolloutRequest(weight_pct=30))
    made = clusters.render(operator(world), "credit", "istio", without=LOST)
    assert weights(made) == {"release-1": 70, "release-2": 30}


def test_after_promotion_the_earlier_release_stays_loaded(world, clusters):
    world.live(cell="a")
    world.promoted(cell="b")
    made = clusters.render(operator(world), "credit", "istio", without=LOST)
    assert (weights(made), made.releases) == ({"release-2": 100}, ("credit@2", "credit@1"))


def test_routes_of_the_gateway_lead_to_the_services(world, clusters):
    world.live(cell="a")
    found = list(yaml.safe_load_all(clusters.render(operator(world), "credit", "kubernetes").text))
    (routes,) = [o for o in found if o["metadata"]["name"] == "gateway-cds"]
    (service,) = [o for o in found if o["kind"] == "Service"]
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
    assert f'"address":"{host}"' in routes["data"]["cds.json"]
    assert "127.0.0.1" not in routes["data"]["cds.json"]


def test_no_key_of_a_model_server_is_in_the_routes(tmp_path):
    world = World(tmp_path / "state", profiles_dir=ROOT / "profiles")
    world.live(cell="a")
    secret = Keys(triton_infer_dev=SecretStr("s3cr3t-infer"), triton_dev=SecretStr("s3cr3t-load"))
    keyed = Control(world.control.settings, secret, clock=world.clock)
    made = Clusters(keyed, ClusterSettings(**PINNED)).render(operator(world), "credit", "kubernetes")
    assert "s3cr3t" not in made.text
    keyed.close()
    world.control.close()


def test_approved_prod_release_is_rendered_with_who_approved_it(world, clusters):
    world.live(cell="a", tier="prod")
    made = clusters.render(operator(world), "credit", "kubernetes")
    assert '\\"approved_by\\": \\"reviewer\\"' in made.text


def test_prod_release_that_waits_is_not_rendered(world, clusters):
    world.release(tier="prod")
    world.progress.proved(world.rollout_id(), "proved")
    with pytest.raises(Conflict, match="has no release that answers"):
        clusters.render(operator(world), "credit", "kubernetes")


def test_prod_release_put_into_the_database_without_an_approval_is_refused_and_recorded(world, clusters):
    world.release(tier="prod")
    with world.control.db.write() as session:
        session.execute(text("UPDATE serving_endpoint SET stable = 1"))
    with pytest.raises(Refused, match="nobody has approved"):
        clusters.render(operator(world), "credit", "kubernetes")
    assert (world.last_audit().action, world.last_audit().outcome) == ("endpoint.render", "refused")


def test_release_that_was_changed_in_the_database_is_refused(world, clusters):
    world.live(cell="a", tier="prod")
    with world.control.db.write() as session:
        session.execute(text("UPDATE serving_release SET author = 'colleague'"))
    with pytest.raises(Refused, match="its hash does not fit"):
        clusters.render(operator(world), "credit", "kubernetes")


def test_every_rendering_is_an_event_of_the_chain(world, clusters):
    world.live(cell="a")
    made = clusters.render(operator(world), "credit", "istio", without=LOST)
    event = world.last_audit()
    assert (event.actor, event.action, event.object) == ("operator", "endpoint.render", "endpoint/credit")
    assert event.after == {
        "target": "istio",
        "releases": ["credit@1"],
        "without": list(LOST),
        "sha256": made.sha256,
        "published": 0,
    }


def test_traffic_that_moves_meanwhile_is_noticed(world, clusters, monkeypatch):
    from themisto_hub.control.serving.routing import Routing

    world.live(cell="a")
    world.live(cell="b")
    table = Routing.table

    def moved(self):
        world.rollouts.rollback(world.caller(), "credit")
        return table(self)

    monkeypatch.setattr(Routing, "table", moved)
    with pytest.raises(Conflict, match="moved meanwhile"):
        clusters.render(operator(world), "credit", "kubernetes")


def test_neighbour_without_an_approval_stops_what_shares_with_it_alone(world, clusters):
    world.live("fraud", cell="a")
    world.release("credit", tier="prod")
    with world.control.db.write() as session:
        session.execute(text("UPDATE serving_endpoint SET stable = 1 WHERE name = 'credit'"))
    assert clusters.render(operator(world), "fraud", "istio", without=LOST).releases == ("fraud@1",)
    with pytest.raises(Refused, match="credit@1"):
        clusters.render(operator(world), "fraud", "kubernetes")


@pytest.mark.parametrize("name", ["nothing", "retired"])
def test_endpoint_without_a_release_is_said(world, clusters, name):
    world.live("retired", cell="a")
    world.rollouts.retire(world.caller(), "retired")
    with pytest.raises((NotFound, Conflict)):
        clusters.render(operator(world), name, "kubernetes")


def test_publish_needs_a_bucket(world, clusters):
    world.live(cell="a")
    with pytest.raises(Invalid, match="no bucket"):
        clusters.render(operator(world), "credit", "kubernetes", publish=True)


@pytest.mark.parametrize("target", ["kubernetes", "kserve"])
def test_publish_puts_there_what_the_objects_ask_for(world, tmp_path, target):
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    made = ClusterSettings(**PINNED, store_cidrs=("10.0.8.0/24",)).model_copy(update={"store": bucket.as_uri()})
    release = world.live(cell="a")
    clusters = Clusters(world.control, made)
    for _ in range(2):
        clusters.render(operator(world), "credit", target, without=WAIVABLE if target == "kserve" else (), publish=True)
    found = {str(file.relative_to(bucket)) for file in bucket.rglob("*") if file.is_file()}
    folder = f"releases/{release.hash}/credit"
    expected = {"kubernetes": {f"artifacts/{SHA}"}, "kserve": {f"{folder}/config.pbtxt", f"{folder}/1/model.onnx"}}
    assert found == expected[target]
    assert world.last_audit().after["published"] == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [("THEMISTO_CLUSTER_NAMESPACE", "Kube System"), ("THEMISTO_CLUSTER_STORE_CIDRS", "10.0.0.0/8")],
)
def test_setting_that_cannot_be_is_a_sentence(world, monkeypatch, setting, value):
    monkeypatch.setenv(setting, value)
    with pytest.raises(Invalid) as raised:
        Clusters(world.control)
    assert setting.removeprefix("THEMISTO_CLUSTER_").lower() in str(raised.value).lower()


# Over HTTP, as the command and the pods ask.


@pytest.fixture
def client(world) -> Iterator[TestClient]:
    control = Control(
        world.control.settings,
        Keys(operator=SecretStr("operator-key"), artifacts=SecretStr("artifact-key")),
        clock=world.clock,
    )
    with TestClient(create_app(control, workers=())) as client:
        yield client


def test_operator_renders_over_http(world, client):
    world.live(cell="a")
    url = f"{PREFIX}/api/v1/operator/render/credit"
    answer = client.post(url, headers={"x-operator-key": "operator-key"}, json={})
    assert answer.status_code == 200
    assert (answer.json()["target"], answer.json()["releases"]) == ("kubernetes", ["credit@1"])


def test_the_setting_names_the_target_that_is_meant(tmp_path, monkeypatch):
    monkeypatch.setenv("THEMISTO_SERVING_TARGET", "istio")
    world = World(tmp_path / "other", profiles_dir=ROOT / "profiles")
    world.live(cell="a")
    control = Control(world.control.settings, Keys(operator=SecretStr("operator-key")), clock=world.clock)
    with TestClient(create_app(control, workers=())) as client:
        url, headers = f"{PREFIX}/api/v1/operator/render/credit", {"x-operator-key": "operator-key"}
        assert client.post(url, headers=headers, json={"without": list(LOST)}).json()["target"] == "istio"
    world.control.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"x-operator-key": "wrong"}, 403),
        ({"x-operator-key": "operator-key", "x-forwarded-for": "10.0.0.1"}, 404),
    ],
)
def test_nobody_else_renders(world, client, headers, status):
    world.live(cell="a")
    answer = client.post(f"{PREFIX}/api/v1/operator/render/credit", headers=headers, json={})
    assert answer.status_code == status
    assert "servers" not in answer.json()


@pytest.mark.parametrize("body", [{"target": "nomad"}, {"without": ["security"]}, {"targets": "istio"}])
def test_wish_that_is_none_is_refused(client, body):
    headers = {"x-operator-key": "operator-key"}
    assert client.post(f"{PREFIX}/api/v1/operator/render/credit", headers=headers, json=body).status_code == 422


def test_artifact_is_given_for_its_key_alone(world, client):
    url = f"{PREFIX}/api/v1/cluster/artifacts/{SHA}"
    assert client.get(url, headers={ARTIFACT_KEY: "artifact-key"}).content == MODEL
    assert client.get(url, headers={ARTIFACT_KEY: "operator-key"}).status_code == 403
    assert (world.last_audit().action, world.last_audit().outcome) == ("cluster.ask", "refused")
    assert client.get(url).status_code == 403
    missing = client.get(f"{PREFIX}/api/v1/cluster/artifacts/{'0' * 64}", headers={ARTIFACT_KEY: "artifact-key"})
    assert missing.status_code == 404
    assert client.get(f"{PREFIX}/api/v1/cluster/artifacts/..", headers={ARTIFACT_KEY: "artifact-key"}).status_code in (
        404,
        422,
    )
