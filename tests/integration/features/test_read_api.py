"""The read API through Envoy, over HTTP and gRPC: the same answer, the same refusals, nothing kept of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pandas as pd
import pytest
from tests.integration.features.conftest import Bench, answers, wait_until

import themisto
from themisto.features.models import Online
from themisto.features.protocol import features_pb2 as pb
from themisto.features.protocol.features_pb2_grpc import FeaturesStub
from themisto_hub.gateway.line import read_line
from themisto_hub.gateway.routes import RouteTable, write

NOW = pd.Timestamp.now(tz="UTC").floor("s")
ROWS = pd.DataFrame(
    {
        "origin": ["JFK", "JFK", "LGA", "EWR"],
        "time_hour": [NOW - pd.Timedelta(hours=h) for h in (2, 1, 1, 9)],
        "temp": [1.0, 3.0, None, 7.0],
        "sky": ["clear", "rain-of-a-person", "fog", "sun"],
    }
)
KEYS = {"origin": ["JFK", "LGA", "EWR", "XXX"]}


@pytest.fixture(scope="module")
def scientist(bench: Bench):
    features = bench.features("scientist", ["data-science"])
    view = themisto.FeatureView(
        "sight",
        entity=themisto.Entity("airport", keys=["origin"]),
        at="time_hour",
        ttl="3h",
        source=ROWS,
        online=Online(keep=3),
    )
    features.apply(view, themisto.FeatureService("sights", features=["sight"]))
    features.materialize("sight")
    features.push("sight", ROWS[ROWS["origin"] == "JFK"])
    return features


@pytest.fixture(scope="module")
def gateway(bench: Bench, scientist):
    ports, signer = bench.settings.ports, bench.control.signer
    table = RouteTable(
        jwks=signer.jwks,
        issuers=(signer.issuer,),
        transformer_http=f"127.0.0.1:{ports.transformer_http}",
        transformer_grpc=f"127.0.0.1:{ports.transformer_grpc}",
    )
    write(table, bench.settings.xds)
    environment = os.environ | {"THEMISTO_STATE": str(bench.state), "THEMISTO_PORT": str(bench.settings.port)}
    (bench.state / "gateway").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "themisto_hub.gateway", "envoy"]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{ports.envoy_admin}/ready"), "Envoy")
        wait_until(lambda: answers(f"{bench.settings.gateway_http}/v2/health/ready"), "Envoy's routes")
        yield bench.settings.gateway_http
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture
def token(scientist) -> dict[str, str]:
    return {"authorization": f"Bearer {scientist._control.gateway_token()}"}


def asked(gateway: str, token: dict[str, str], ref: str = "sights", **body) -> httpx.Response:
    return httpx.post(f"{gateway}/v2/features/{ref}", json={"entities": KEYS} | body, headers=token)


def called(bench: Bench, token: dict[str, str], **fields):
    entities = [pb.Column(name="origin", strings=pb.Strings(values=KEYS["origin"]))]
    request = pb.ReadRequest(**{"service": "sights", "entities": entities} | fields)
    with grpc.insecure_channel(bench.settings.gateway_grpc) as channel:
        return FeaturesStub(channel).Read(request, metadata=tuple(token.items()), timeout=10)


def test_missing_stale_and_null_are_told_apart(gateway: str, token) -> None:
    answer = asked(gateway, token)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert {c["name"]: c["values"] for c in found["columns"]}["temp"] == [3.0, None, 7.0, None]
    view = found["views"]["sight"]
    assert view["states"] == ["present", "present", "stale", "missing"]
    assert [t is None for t in view["event_times"]] == [False, False, False, True]
    assert view["ages_s"][2] > 9 * 3600
    assert (found["service"], found["version"], found["columns"][0]["dtype"]) == ("sights", 1, "float64")


def test_grpc_says_the_same(bench: Bench, gateway: str, token) -> None:
    told = called(bench, token, service="sights@1", features=["temp"])
    (column,) = told.columns
    assert (list(column.doubles.values), list(column.nulls)) == ([3.0, 0.0, 7.0, 0.0], [1, 3])
    assert list(told.views[0].states) == [pb.PRESENT, pb.PRESENT, pb.STALE, pb.MISSING]
    assert (told.version, told.entities, told.views[0].ttl_s) == (1, 4, 10800)


def test_last_values_come_newest_first(bench: Bench, gateway: str, token) -> None:
    found = asked(gateway, token, features=["temp"], history=2).json()
    assert found["columns"][0]["values"] == [[3.0, 1.0], [None], [7.0], []]
    told = called(bench, token, features=["temp"], history=2)
    assert list(told.views[0].counts) == [2, 1, 1, 0]
    assert list(told.columns[0].doubles.values) == [3.0, 1.0, 0.0, 7.0]


@pytest.mark.parametrize(
    ("ref", "body", "status", "says"),
    [
        ("sihgts", {}, 404, "Did you mean sights?"),
        ("sights@9", {}, 404, "sights@9"),
        ("sights@x", {}, 400, "NAME@VERSION"),
        ("sights", {"features": ["tmp"]}, 400, "Did you mean temp?"),
        ("sights", {"entities": {"orign": ["JFK"]}}, 400, "Did you mean origin?"),
        ("sights", {"entities": {"origin": [5]}}, 400, "is string"),
        ("sights", {"entities": {"origin": ["x"] * 10_001}}, 400, "10,001 entities"),
        ("sights", {"history": 4}, 400, "keeps the last 3"),
        ("sights", {"group": "elsewhere"}, 403, "not in the group"),
        ("sights", {"entities": {"origin": ["x" * 9 * 2**20]}}, 413, "over 8 MiB"),
    ],
)
def test_wrong_requests_hear_what_is_wrong(gateway: str, token, ref: str, body: dict, status: int, says: str) -> None:
    answer = asked(gateway, token, ref, **body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_scope_and_group_are_asked_for_over_both(bench: Bench, gateway: str) -> None:
    for name, groups, scopes, http, code in (
        ("caller", ["data-science"], ["custom:themisto:infer"], 403, grpc.StatusCode.PERMISSION_DENIED),
        ("stranger", ["elsewhere"], ["custom:themisto:features:read"], 404, grpc.StatusCode.NOT_FOUND),
    ):
        held = {"authorization": f"Bearer {bench.plane(name, groups, scopes).gateway_token()}"}
        assert asked(gateway, held).status_code == http
        with pytest.raises(grpc.RpcError) as refused:
            called(bench, held)
        assert refused.value.code() == code
    assert asked(gateway, {}).status_code == 401


def test_its_docs_give_what_they_say(bench: Bench, gateway: str, token) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "feature-api.md").read_text()
    namespace = {
        "gateway": gateway,
        "gateway_grpc": bench.settings.gateway_grpc,
        "token": token["authorization"].removeprefix("Bearer "),
    }
    checked = 0
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        pending: list[str] = []
        for line in block.splitlines():
            code, sign, given = line.partition("  # → ")
            if not sign:
                pending.append(line)
                continue
            exec("\n".join(pending), namespace)
            pending = []
            assert repr(eval(code, namespace)) == given, code
            checked += 1
    assert checked == text.count("  # → ") == 6


def test_the_kernel_reads_last_values(scientist) -> None:
    frame = scientist.get("sights", origin=["JFK", "XXX"], history=2)
    assert frame["temp"].tolist() == [3.0, 1.0]
    assert frame["event_time"].is_monotonic_decreasing


def test_nothing_of_an_answer_is_kept_and_reads_are_counted(bench: Bench, gateway: str, token) -> None:
    answer = asked(gateway, token)
    assert "rain-of-a-person" in answer.text
    stats = f"http://127.0.0.1:{bench.settings.ports.envoy_admin}/stats/prometheus"
    assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="features"}' in httpx.get(stats).text
    log = bench.state / "gateway" / "predictions.log"
    request_id = answer.headers["x-request-id"].encode()
    wait_until(lambda: request_id in log.read_bytes(), "the request's line")
    (line,) = [one for one in log.read_bytes().split(b"\n") if request_id in one]
    said = read_line(line)
    assert said["status"] == "200"
    assert [said[name] for name in ("response", "request", "path")] == [None, None, None]
