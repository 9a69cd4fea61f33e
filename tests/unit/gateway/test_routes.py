"""The route table: what is refused, and what is written, byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from themisto.serving.models import Column
from themisto_hub.gateway.bootstrap import GatewaySettings, bootstrap
from themisto_hub.gateway.envoy import binary
from themisto_hub.gateway.fallback import DefaultAnswer, StandIn
from themisto_hub.gateway.feature_table import TABLE
from themisto_hub.gateway.render import render
from themisto_hub.gateway.routes import FILES, Issuer, Route, RouteTable, Target, write
from themisto_hub.settings import Deployment

GOLDEN = Path(__file__).parent / "golden"
JWK = {
    "kty": "RSA",
    "kid": "one",
    "alg": "RS256",
    "use": "sig",
    "e": "AQAB",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
    "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
    "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
    "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgQ",
}
KEYS = {"keys": [JWK]}
INFER_KEY = "key-of-tests"
PORTS = {"http": 8012, "grpc": 8013}


def target(release: str, weight_pct: int, **fields) -> Target:
    return Target(release=release, weight_pct=weight_pct, http="127.0.0.1:8012", grpc="127.0.0.1:8013", **fields)


def route(name: str, *releases: Target, **fields) -> Route:
    return Route(name=name, group="data-science", tier="dev", releases=releases, **fields)


def table() -> RouteTable:
    """One of each: canary, shadow, features, fallbacks, a group's own sockets, a machine's issuer, a revoked token."""
    rule = StandIn(
        kind="rule", release="rule.sure--2", http="unix:/run/rule/http.sock", grpc="unix:/run/rule/grpc.sock"
    )
    earlier = StandIn(kind="earlier", release="sure--1", http="127.0.0.1:8012", grpc="127.0.0.1:8013")
    default = DefaultAnswer(outputs=(Column(name="y", dtype="FP32"),), values={"y": 0.5})
    sure = target("sure--2", 100, fallbacks=(earlier, rule), default=default, fallback_after_ms=500, max_concurrent=32)
    code = Target(release="rule--1", weight_pct=100, http="unix:/run/rule/http.sock", grpc="unix:/run/rule/grpc.sock")
    return RouteTable(
        endpoints=(
            route("credit", target("credit--7", 95), target("credit--8", 5)),
            route(
                "flight_delay",
                target("flight_delay--1", 100),
                target("flight_delay--2", 0, shadow=True),
                feature_service="delays@3",
                feature_names=("wind_speed", "visib"),
                keys=("origin",),
            ),
            route("rule", code, rate_per_s=50),
            route("sure", sure),
        ),
        jwks=KEYS,
        issuers=("http://127.0.0.1:8000/services/themisto", Issuer(issuer="https://machines.example", jwks=KEYS)),
        denied_jti=("stolen",),
        default_key=SecretStr("key-of-defaults"),
        infer_keys={f"127.0.0.1:{port}": SecretStr(INFER_KEY) for port in PORTS.values()},
    )


@pytest.mark.parametrize("name", FILES)
def test_table_renders_as_ever(name):
    rendered = json.dumps(render(table())[name], indent=1, sort_keys=True) + "\n"
    file = GOLDEN / name
    if os.environ.get("THEMISTO_GOLDEN") == "write":
        file.write_text(rendered)
    assert rendered == file.read_text(), "look at the difference; if it is meant: THEMISTO_GOLDEN=write"


@pytest.mark.parametrize("given", [table(), RouteTable()], ids=["full", "empty"])
def test_envoy_takes_what_is_rendered(given, tmp_path):
    """The same messages, static: what Envoy would refuse at run time it refuses here."""
    files = render(given)
    config = bootstrap(Deployment(state=tmp_path), GatewaySettings())
    del config["dynamic_resources"]
    static = config["static_resources"]
    static["clusters"] += [untyped(cluster) for cluster in files["cds.json"]["resources"]]
    for listener in static["listeners"][:2]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["rds"]
        manager["route_config"] = untyped(files["rds.json"]["resources"][0])
        for http_filter in (f for f in manager["http_filters"] if f.pop("config_discovery", None)):
            http_filter["typed_config"] = files[f"{http_filter['name']}.json"]["resources"][0]["typed_config"]
    file = tmp_path / "static.json"
    file.write_text(json.dumps(config))
    command = [binary(), "--mode", "validate", "-c", file, "--disable-hot-restart", "--concurrency", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def untyped(message):
    return {k: v for k, v in message.items() if k != "@type"}


@pytest.mark.parametrize(
    ("releases", "reason"),
    [
        ((target("credit--1", 90),), "add up to 90"),
        ((target("credit--1", 60), target("credit--2", 60)), "add up to 120"),
        ((target("credit--1", 100), target("credit--1", 0)), "the releases of 'credit'"),
        ((target("other--1", 100),), "the releases of 'credit'"),
        ((target("credit--1", 100), target("credit--2", 5, shadow=True)), "shadow release of 'credit' has a weight"),
        ((), "at least 1 item"),
    ],
)
def test_shares_that_are_not_whole_are_refused(releases, reason):
    with pytest.raises(ValidationError, match=reason):
        route("credit", *releases)


@pytest.mark.parametrize(
    "address", ["localhost", "127.0.0.1:0", "127.0.0.1:70000", "unix:relative", "unix:/" + "a" * 107]
)
def test_address_that_is_none_is_refused(address):
    with pytest.raises(ValidationError, match="an address is"):
        Target(release="credit--1", weight_pct=100, http=address, grpc="127.0.0.1:1")


@pytest.mark.parametrize("release", ['credit--1"', "credit--0", "credit", "Credit--1", "credit--1\nx", "a}--1"])
def test_release_name_is_never_code(release):
    with pytest.raises(ValidationError):
        target(release, 100)


@pytest.mark.parametrize("name", ['x"', "x\\", "x\n"])
def test_feature_name_is_never_code(name):
    with pytest.raises(ValidationError):
        route("credit", target("credit--1", 100), feature_names=(name,))


@pytest.mark.parametrize(
    "keys", [{"keys": [{"kty": "RSA"}]}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, {"keys": "x"}]
)
def test_keys_that_envoy_cannot_use_are_refused(keys):
    with pytest.raises(ValidationError, match=r"keys of https://a\.test"):
        RouteTable(jwks=keys, issuers=("https://a.test",))


def test_endpoint_twice_is_refused():
    with pytest.raises(ValidationError, match="twice"):
        RouteTable(endpoints=(route("credit", target("credit--1", 100)), route("credit", target("credit--2", 100))))


def test_clusters_of_the_routes_in_force_outlive_one_write(tmp_path):
    def names() -> set[str]:
        return {c["name"] for c in json.loads((tmp_path / "cds.json").read_text())["resources"]}

    write(RouteTable(endpoints=(route("credit", target("credit--1", 100)),)), tmp_path)
    write(RouteTable(endpoints=(route("credit", target("credit--2", 100)),)), tmp_path)
    assert {"credit--1.http", "credit--2.http"} <= names()
    write(RouteTable(endpoints=(route("credit", target("credit--2", 100)),)), tmp_path)
    assert "credit--1.http" not in names()


def test_releases_asked_by_key_in_the_routes_in_force_outlive_one_write(tmp_path):
    def known() -> set[str]:
        return set(json.loads((tmp_path / TABLE).read_text())["releases"])

    def by_key(release: str) -> RouteTable:
        one = target(release, 100).model_copy(update={"feature_service": "worth@1"})
        named = {"feature_service": "worth@1", "feature_names": ("income",), "keys": ("customer",)}
        return RouteTable(endpoints=(route("credit", one).model_copy(update=named),))

    write(by_key("credit--1"), tmp_path)
    write(by_key("credit--2"), tmp_path)
    assert known() == {"credit--1", "credit--2"}
    write(by_key("credit--2"), tmp_path)
    assert known() == {"credit--2"}


def test_written_files_are_whole_and_nothing_else_is_left(tmp_path):
    write(table(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*FILES, TABLE])
    lookups = json.loads((tmp_path / TABLE).read_text())
    assert set(lookups["releases"]) == {"flight_delay--1", "flight_delay--2"}
    assert lookups["denied_jti"] == ["stolen"]


def test_table_that_cannot_be_written_leaves_the_last_one(tmp_path):
    write(table(), tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    with pytest.raises(ValidationError):
        write(RouteTable(endpoints=(route("credit", target("credit--1", 90)),)), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before


def test_unchanged_files_are_not_touched(tmp_path):
    write(table(), tmp_path)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in FILES}
    write(table(), tmp_path)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in FILES} == before


def test_infer_key_goes_to_its_own_triton_and_is_for_the_groups_eyes_only(tmp_path):
    xds = tmp_path / "xds"
    write(table(), xds)
    having = {c["name"] for c in json.loads((xds / "cds.json").read_text())["resources"] if INFER_KEY in json.dumps(c)}
    assert having == {
        f"{r}.{p}" for r in ("credit--7", "credit--8", "flight_delay--1", "flight_delay--2", "sure--2") for p in PORTS
    }
    assert [p.name for p in xds.iterdir() if INFER_KEY in p.read_text()] == ["cds.json"]
    assert {p.stat().st_mode & 0o777 for p in xds.iterdir()} == {0o640}
    assert xds.stat().st_mode & 0o007 == 0
    assert INFER_KEY not in repr(table()) + table().model_dump_json()


def test_what_a_key_says_is_no_command_to_envoy():
    given = RouteTable(
        endpoints=(route("credit", target("credit--1", 100)),), infer_keys={"127.0.0.1:8012": SecretStr("%PROTOCOL%")}
    )
    assert '"value": "%%PROTOCOL%%"' in json.dumps(render(given)["cds.json"])
