"""What is asked of the objects beyond their schema: who is where, what it may, what changes when traffic moves."""

import json
import subprocess

import pytest
import yaml
from pydantic import ValidationError
from tests.unit.cluster.plans import PROFILES, placed, plan, release, rendered, settings, table

from themisto.errors import Invalid, NotFound, Refused
from themisto.serving.models import Artifact, ServingConfig
from themisto_hub.cluster.istio_messages import ConnectionPool, OutlierDetection
from themisto_hub.cluster.plan import Plan
from themisto_hub.cluster.settings import ClusterSettings, cluster_settings
from themisto_hub.gateway.bootstrap import GatewaySettings, bootstrap
from themisto_hub.gateway.envoy import binary
from themisto_hub.gateway.render import render as envoy
from themisto_hub.settings import Deployment

LOST = ("prediction-log", "fallback")
BUCKET = {"store": "s3://models/themisto", "store_cidrs": ("10.0.8.0/24",)}
CODE = Artifact(kind="python", sha256="c0" * 32, size_bytes=2000)


def objects(of, target, cluster=None, **more):
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(rendered(of, target, cluster, **more))}


def kinds(found, kind):
    return [one for (k, _), one in found.items() if k == kind]


def lists_of_models(found):
    return [one for one in kinds(found, "ConfigMap") if "models.json" in one["data"]]


def fetched(found):
    return {
        model["name"]: model["version"]
        for one in lists_of_models(found)
        for model in json.loads(one["data"]["models.json"])["models"]
    }


# Kubernetes: one Triton a tier and profile.


def test_releases_of_one_profile_share_a_triton_with_the_neighbours():
    fraud = Plan(endpoint="fraud", group="data-science", tier="prod", stable=placed(release(1, "fraud"), 100))
    found = objects(plan("canary"), "kubernetes", neighbours=[fraud])
    assert [d["metadata"]["name"] for d in kinds(found, "Deployment")] == ["triton-prod-cpu-small"]
    assert fetched(found) == {"credit--6": 1, "credit--7": 1, "credit--8": 1, "fraud--1": 1}


def test_routes_of_all_endpoints_come_with_the_tritons_of_all():
    fraud = Plan(
        endpoint="fraud",
        group="data-science",
        tier="prod",
        stable=placed(release(1, "fraud", profile="gpu-full"), 100),
    )
    found = objects(plan(), "kubernetes", neighbours=[fraud])
    names = [d["metadata"]["name"] for d in kinds(found, "Deployment")]
    assert names == ["triton-prod-cpu-small", "triton-prod-gpu-full"]


def test_neighbour_that_nobody_approved_stops_the_rendering():
    sneaky = Plan(
        endpoint="fraud", group="data-science", tier="prod", stable=placed(release(1, "fraud"), 100, approved=False)
    )
    with pytest.raises(Refused, match="fraud@1"):
        rendered(plan(), "kubernetes", neighbours=[sneaky])


def test_code_never_shares_a_triton_with_models_nor_with_another_group():
    code = [
        Plan(
            endpoint=endpoint,
            group=group,
            tier="prod",
            stable=placed(release(1, endpoint, group=group, artifact=CODE), 100),
        )
        for endpoint, group in (("rules", "data-science"), ("limits", "other-team"))
    ]
    found = objects(code[0], "kubernetes", neighbours=[plan(), code[1]])
    held = [json.loads(one["data"]["models.json"])["models"] for one in lists_of_models(found)]
    assert sorted([model["name"] for model in models] for models in held) == [
        ["credit--6", "credit--7"],
        ["limits--1"],
        ["rules--1"],
    ]


@pytest.mark.parametrize(
    ("profile", "asked"),
    [("cpu-small", {}), ("gpu-full", {"nvidia.com/gpu": "1"}), ("gpu-mig-1g", {"nvidia.com/mig-1g.10gb": "1"})],
)
def test_container_asks_for_the_profile(profile, asked):
    found = objects(plan(stable=placed(release(7, profile=profile), 100), previous=None), "kubernetes")
    (deployment,) = kinds(found, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "2000m", "memory": str(4 * 2**30), **asked}
    (models,) = [one for one in kinds(found, "ConfigMap") if "models.json" in one["data"]]
    assert ("KIND_GPU" in models["data"]["models.json"]) == bool(asked)


@pytest.mark.parametrize("target", ["kubernetes", "istio"])
def test_pods_hold_no_power(target):
    found = objects(plan(stable=placed(release(7, artifact=CODE), 100)), target, without=LOST)
    for deployment in kinds(found, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in pod["containers"] + pod["initContainers"]:
            may = container["securityContext"]
            assert (may["runAsNonRoot"], may["readOnlyRootFilesystem"]) == (True, True)
            assert may["allowPrivilegeEscalation"] is False
            assert may["capabilities"] == {"drop": ["ALL"]}
            assert may["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(account["automountServiceAccountToken"] is False for account in kinds(found, "ServiceAccount"))


def test_tritons_send_spans_where_a_collector_is_named_and_may_reach_it():
    cluster = settings(collector="http://otel.monitoring:4318", monitoring_namespace="monitoring")
    found = objects(plan(), "kubernetes", cluster)
    (deployment,), (policy,) = kinds(found, "Deployment"), kinds(found, "NetworkPolicy")
    args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--trace-config=opentelemetry,url=http://otel.monitoring:4318/v1/traces" in args
    assert "--trace-config=opentelemetry,resource=service.name=triton-prod-cpu-small" in args
    (out,) = [rule for rule in policy["spec"]["egress"] if rule["ports"][0]["port"] == 4318]
    labels = out["to"][0]["namespaceSelector"]["matchLabels"]
    assert labels == {"kubernetes.io/metadata.name": "monitoring"}


def test_by_default_tritons_send_no_span():
    assert "trace-config" not in rendered(plan(), "kubernetes")


def test_the_collector_of_the_workbench_is_the_clusters_unless_it_has_one(monkeypatch):
    assert cluster_settings("http://c:4318").collector == "http://c:4318"
    monkeypatch.setenv("THEMISTO_CLUSTER_COLLECTOR", "http://other:4318")
    assert cluster_settings("http://c:4318").collector == "http://other:4318"


def test_only_the_fetching_container_sees_the_key_of_the_artifacts():
    (deployment,) = kinds(objects(plan(), "kubernetes"), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["envFrom"] == [{"secretRef": {"name": "themisto-artifacts"}}]
    assert "envFrom" not in pod["containers"][0]
    assert [e["name"] for e in pod["containers"][0]["env"]] == ["MODEL_KEY"]


def test_model_server_is_reached_by_the_platform_and_reaches_the_store_alone():
    (policy,) = kinds(objects(plan(), "kubernetes"), "NetworkPolicy")
    callers = [peer["podSelector"]["matchLabels"] for peer in policy["spec"]["ingress"][0]["from"]]
    assert {c["app.kubernetes.io/name"] for c in callers} == {
        "themisto-control",
        "themisto-gateway",
        "themisto-transformer",
    }
    out = policy["spec"]["egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in out] == [[53, 53], [8003]]
    (policy,) = kinds(objects(plan(), "kubernetes", settings(**BUCKET)), "NetworkPolicy")
    assert policy["spec"]["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.8.0/24"}}]


def test_moving_traffic_restarts_no_pod():
    def templates(of):
        return {
            name: one["spec"]["template"]
            for (kind, name), one in objects(of, "kubernetes").items()
            if kind == "Deployment"
        }

    assert templates(plan("canary", 5)) == templates(plan("canary", 30)) == templates(plan("shadow"))


def test_a_new_release_has_its_own_list_of_models_and_the_old_pods_keep_theirs():
    def lists(of):
        return {one["metadata"]["name"] for one in kinds(objects(of, "kubernetes"), "ConfigMap")}

    assert lists(plan()) - lists(plan("canary"))
    (listed,) = [o for o in kinds(objects(plan(), "kubernetes"), "ConfigMap") if "models.json" in o["data"]]
    assert listed["immutable"] is True


def test_autoscaler_waits_for_more_than_the_batching_asked_for():
    slow = release(7, serving=ServingConfig(queue_delay_us=30_000))
    found = objects(plan(stable=placed(slow, 100)), "kubernetes", settings(queue_time_us=1000))
    (scaler,) = kinds(found, "HorizontalPodAutoscaler")
    assert scaler["spec"]["metrics"][0]["pods"]["target"]["averageValue"] == "31000"


def test_releases_say_whose_word_they_run_by():
    (deployment,) = kinds(objects(plan("canary"), "kubernetes"), "Deployment")
    told = json.loads(deployment["metadata"]["annotations"]["themisto.dev/releases"])
    assert set(told) == {"credit@6", "credit@7", "credit@8"}
    assert told["credit@8"]["hash"] == release(8).hash
    assert told["credit@8"]["approved_by"] == "reviewer"


# Istio: one Triton a release.


def test_every_release_has_a_triton_that_answers_to_the_endpoint():
    found = objects(plan("canary"), "istio", without=LOST)
    assert [d["metadata"]["name"] for d in kinds(found, "Deployment")] == [f"release-credit-{n}" for n in (6, 7, 8)]
    versions = {
        model["version"]
        for one in kinds(found, "ConfigMap")
        for model in json.loads(one["data"]["models.json"])["models"]
        if model["name"] == "credit"
    }
    assert versions == {6, 7, 8}


def test_subsets_are_the_pods_of_the_deployments():
    found = objects(plan("canary"), "istio", without=LOST)
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in kinds(found, "Deployment")]
    (rule,) = kinds(found, "DestinationRule")
    for subset in rule["spec"]["subsets"]:
        assert sum(subset["labels"].items() <= labels.items() for labels in pods) == 1
    (policy,) = kinds(found, "AuthorizationPolicy")
    assert all(policy["spec"]["selector"]["matchLabels"].items() <= labels.items() for labels in pods)


def test_answer_of_istio_names_its_release():
    (service,) = kinds(objects(plan("canary", 30), "istio", without=LOST), "VirtualService")
    told = {s["headers"]["response"]["set"]["x-release"]: s["weight"] for s in service["spec"]["http"][0]["route"]}
    assert told == {"credit@7": 70, "credit@8": 30}


def test_shadow_of_istio_gets_copies_and_no_weight():
    (service,) = kinds(objects(plan("shadow"), "istio", without=LOST), "VirtualService")
    (route,) = service["spec"]["http"]
    assert [s["destination"]["subset"] for s in route["route"]] == ["release-7"]
    assert [m["destination"]["subset"] for m in route["mirrors"]] == ["release-8"]


def test_without_an_issuer_nobody_passes():
    from themisto_hub.cluster.render import render

    of = plan()
    nobody = table(of).model_copy(update={"issuers": ()})
    text = render(of, "istio", PROFILES, settings(), table=nobody, without=LOST).text
    found = {one["kind"]: one for one in yaml.safe_load_all(text)}
    assert "RequestAuthentication" not in found
    assert found["AuthorizationPolicy"]["spec"]["action"] == "ALLOW"
    assert found["AuthorizationPolicy"]["spec"]["rules"] == []


def test_bounds_of_istio_are_those_of_the_gateway():
    cluster = envoy(table(plan()))["cds.json"]["resources"][0]
    bounds = cluster["circuit_breakers"]["thresholds"][0]
    pool, outliers = ConnectionPool(), OutlierDetection()
    assert pool.tcp.max_connections == bounds["max_connections"]
    assert f"{pool.tcp.connect_timeout}" == cluster["connect_timeout"]
    assert pool.http.http1_max_pending_requests == bounds["max_pending_requests"]
    assert pool.http.http2_max_requests == bounds["max_requests"]
    assert pool.http.max_retries == bounds["retry_budget"]["min_retry_concurrency"]
    assert outliers.consecutive_gateway_errors == cluster["outlier_detection"]["consecutive_gateway_failure"]
    assert outliers.interval == cluster["outlier_detection"]["interval"]
    assert outliers.base_ejection_time == cluster["outlier_detection"]["base_ejection_time"]


# KServe: the revision that traffic moves to.


def test_kserve_gets_the_candidate_and_is_told_what_must_be_there():
    found = objects(plan("canary", 30), "kserve", settings(**BUCKET), without=(*LOST, "tokens", "breaker"))
    service = found["InferenceService", "credit"]
    assert service["spec"]["predictor"]["canaryTrafficPercent"] == 30
    assert service["metadata"]["annotations"]["themisto.dev/needs-applied-before"] == "credit@7"
    assert service["spec"]["predictor"]["model"]["storageUri"].endswith(f"/releases/{release(8).hash}")


def test_kserve_without_a_candidate_takes_all_traffic():
    found = objects(plan(), "kserve", settings(**BUCKET), without=(*LOST, "tokens", "breaker"))
    predictor = found["InferenceService", "credit"]["spec"]["predictor"]
    assert "canaryTrafficPercent" not in predictor
    assert predictor["model"]["storageUri"].endswith(f"/releases/{release(7).hash}")


# What no cluster can run.


@pytest.mark.parametrize(
    ("cluster", "of", "said"),
    [
        (settings(triton_image="tritonserver:24.10"), plan(), "THEMISTO_CLUSTER_TRITON_IMAGE"),
        (settings(puller_image="themisto:latest"), plan(), "THEMISTO_CLUSTER_PULLER_IMAGE"),
        (settings(triton_image="tritonserver@sha256:beef"), plan(), "has no digest"),
        (settings(code_image=None), plan(stable=placed(release(7, artifact=CODE), 100)), "THEMISTO_CLUSTER_CODE_IMAGE"),
        (settings(store="s3://models/x"), plan(), "THEMISTO_CLUSTER_STORE_CIDRS"),
        (settings(min_replicas=11), plan(), "THEMISTO_CLUSTER_MIN_REPLICAS"),
    ],
)
def test_settings_that_cannot_be_are_named(cluster, of, said):
    with pytest.raises(Invalid) as raised:
        rendered(of, "kubernetes", cluster)
    assert said in str(raised.value)
    assert raised.value.remedy


def test_dev_may_run_an_image_by_its_tag():
    dev = plan(tier="dev", stable=placed(release(7, tier="dev"), 100, approved=False), previous=None)
    assert "tritonserver:24.10" in rendered(dev, "kubernetes", settings(triton_image="tritonserver:24.10"))


def test_kserve_needs_a_bucket():
    with pytest.raises(Invalid, match="fetches models from a bucket"):
        rendered(plan(), "kserve", without=(*LOST, "tokens", "breaker"))


def test_namespace_that_leaves_kserve_no_room_is_named():
    with pytest.raises(Invalid, match="leaves no room"):
        rendered(plan(), "kserve", settings(**BUCKET, namespace="n" * 40), without=(*LOST, "tokens", "breaker"))


def test_long_endpoint_on_kserve_keeps_within_one_name():
    long = "a" * 48
    of = plan(endpoint=long, stable=placed(release(7, long), 100), previous=None)
    found = objects(of, "kserve", settings(**BUCKET), without=(*LOST, "tokens", "breaker"))
    (service,) = kinds(found, "InferenceService")
    assert len(f"{service['metadata']['name']}-predictor-{service['metadata']['namespace']}") <= 63


def test_profile_that_is_gone_is_named():
    with pytest.raises(NotFound, match="'gpu-huge'"):
        rendered(plan(stable=placed(release(7, profile="gpu-huge"), 100)), "kubernetes")


def test_more_models_than_a_list_holds_are_refused():
    wide = release(7).signature.model_copy(update={"inputs": release(7).signature.inputs * 8000})
    with pytest.raises(Invalid, match="more than one ConfigMap holds"):
        rendered(plan(stable=placed(release(7, signature=wide), 100)), "kubernetes")


@pytest.mark.parametrize(
    "setting",
    [
        {"namespace": "Kube System"},
        {"triton_image": "image\nhostNetwork: true"},
        {"store": "ftp://models"},
        {"store": "https://x/\n"},
        {"store_cidrs": ["everywhere"]},
        {"min_replicas": 0},
    ],
)
def test_setting_that_is_none_is_refused(setting):
    with pytest.raises(ValidationError):
        ClusterSettings(**setting)


@pytest.mark.parametrize(
    "parts",
    [
        {"stable": placed(release(7), 90)},
        {"stable": placed(release(7), 100, shadow=True)},
        {"stable": placed(release(7, "other"), 100)},
        {"previous": placed(release(7), 0)},
    ],
)
def test_plan_that_is_not_whole_is_refused(parts):
    with pytest.raises(ValidationError):
        plan(**parts)


@pytest.mark.parametrize("broken", [None, "cds.json", "rds.json"])
def test_envoy_takes_the_routes_of_the_cluster(tmp_path, broken):
    """The ConfigMap's messages, static: Envoy judges at once what it would meet at run time, and can refuse."""
    found = kinds(objects(plan("shadow"), "kubernetes"), "ConfigMap")
    files = {file: json.loads(text) for one in found for file, text in one["data"].items()}
    if broken:
        files[broken]["resources"][0]["nonsense"] = True
    config = bootstrap(Deployment(state=tmp_path), GatewaySettings())
    del config["dynamic_resources"]
    config["static_resources"]["clusters"] += [untyped(one) for one in files["cds.json"]["resources"]]
    for listener in config["static_resources"]["listeners"][:2]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["rds"]
        manager["route_config"] = untyped(files["rds.json"]["resources"][0])
        for discovered in [one for one in manager["http_filters"] if "config_discovery" in one]:
            del discovered["config_discovery"]
            discovered["typed_config"] = files[f"{discovered['name']}.json"]["resources"][0]["typed_config"]
    file = tmp_path / "static.json"
    file.write_text(json.dumps(config))
    command = [binary(), "--mode", "validate", "-c", file, "--disable-hot-restart", "--concurrency", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) == (broken is None), done.stderr[-3000:]


def untyped(message):
    return {key: value for key, value in message.items() if key != "@type"}


def test_gateway_finds_every_pod_by_the_services_name():
    (service,) = kinds(objects(plan(), "kubernetes"), "Service")
    assert service["spec"]["clusterIP"] == "None"
