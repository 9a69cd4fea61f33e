"""What stands in for a release: only what was approved, only what takes the same requests; its rule with it."""

from __future__ import annotations

import hashlib
import os

import pytest

from themisto.errors import Invalid, NotFound
from themisto.serving.models import Artifact, Column, Fallback, Golden, Signature
from themisto_hub.control.serving.diff import difference
from themisto_hub.control.serving.fallbacks import rule_of
from themisto_hub.control.serving.routing import Routing
from themisto_hub.gateway.personal import DECLARED, Declared

RULE = b"the zip of a function"


@pytest.fixture
def routing(world):
    def address(release):
        kind = release.artifact.kind
        return f"unix:/run/{kind}/http.sock", f"unix:/run/{kind}/grpc.sock"

    return Routing(world.control, address)


@pytest.fixture
def rule(world) -> Artifact:
    digest = hashlib.sha256(RULE).hexdigest()
    (world.control.settings.folder("control") / "artifacts" / digest).write_bytes(RULE)
    return Artifact(kind="python", sha256=digest, size_bytes=len(RULE))


def targets(routing):
    (route,) = routing.table().endpoints
    return {t.release: t for t in route.releases}


def stands_in(target):
    return [(f.kind, f.release) for f in target.fallbacks]


def test_stable_stands_in_for_a_candidate_and_the_one_before_for_stable(world, routing):
    world.live(cell="a")
    assert stands_in(targets(routing)["credit--1"]) == []
    world.promoted(cell="b")
    world.live(cell="c")
    found = targets(routing)
    assert stands_in(found["credit--2"]) == [("earlier", "credit--1")]
    assert stands_in(found["credit--3"]) == [("earlier", "credit--2")]


def test_release_that_was_rolled_back_stands_in_for_nobody(world, routing):
    world.live(cell="a")
    world.promoted(cell="b")
    world.rollouts.rollback(world.caller(), "credit")
    assert {name: stands_in(t) for name, t in targets(routing).items()} == {"credit--1": []}


def test_release_with_another_signature_stands_in_for_nobody(world, routing):
    world.live(cell="a")
    more = tuple(Column(name=name, dtype="FP32") for name in ("y", "spread"))
    other = Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=more)
    world.live(cell="b", signature=other, golden=Golden(inputs={"x": [1.0]}, outputs={"y": [1.0], "spread": [0.1]}))
    assert stands_in(targets(routing)["credit--2"]) == []


def test_nothing_stands_in_for_a_shadow(world, routing):
    world.live(cell="a")
    world.live(cell="b", rollout={"strategy": "shadow", "weight_pct": 0}, fallback=Fallback(default={"y": 0.5}))
    shadow = targets(routing)["credit--2"]
    assert shadow.shadow
    assert not shadow.falls_back


def test_rule_and_default_come_after_the_earlier_release(world, routing, rule):
    world.live(cell="a")
    made = world.live(cell="b", fallback=Fallback(default={"y": 0.5}, rule=rule, after_ms=300))
    target = targets(routing)["credit--2"]
    assert stands_in(target) == [("earlier", "credit--1"), ("rule", "rule.credit--2")]
    assert (target.default.values, target.fallback_after_ms) == ({"y": 0.5}, 300)
    assert target.fallbacks[1].http == "unix:/run/python/http.sock"
    assert target.fallbacks[1].title == "credit@2"
    assert rule_of(made).artifact == rule
    routing.publish()


def test_rule_is_kept_loaded_and_stored_as_long_as_its_release(world, routing, rule):
    world.live(cell="a", fallback=Fallback(rule=rule))
    live = [(one.release.endpoint, one.release.artifact.kind) for one in world.progress.live()]
    assert live == [("credit", "onnx"), ("rule.credit", "python")]
    artifacts = world.control.serving.artifacts
    file = world.control.settings.folder("control") / "artifacts" / rule.sha256
    os.utime(file, (0, 0))
    world.control.serving.sweep_artifacts()
    assert artifacts.exists(rule.sha256)


@pytest.mark.parametrize(
    ("fallback", "error"),
    [
        (Fallback(default={"other": 1.0}), Invalid),
        (Fallback(default={"y": "text"}), Invalid),
        (Fallback(rule=Artifact(kind="python", sha256="0" * 64, size_bytes=3)), NotFound),
    ],
)
def test_fallback_that_does_not_fit_is_refused(world, fallback, error):
    with pytest.raises(error):
        world.release(fallback=fallback)


def test_model_is_no_rule(world):
    onnx = world.release(cell="a").artifact
    with pytest.raises(Invalid, match="a function, not a model"):
        world.release("other", cell="b", fallback=Fallback(rule=onnx))


def test_bulkhead_is_the_releases_own(world, routing):
    world.live(cell="a", serving={"max_concurrent": 7})
    assert targets(routing)["credit--1"].max_concurrent == 7


def test_personal_columns_of_all_releases_are_told_to_the_log_what_keeps_less_counts(world, routing):
    world.live(cell="a", personal={"x": "encrypt", "y": "hash"})
    world.live(cell="b", personal={"x": "drop"})
    world.promoted("plain", cell="c")
    routing.publish()
    told = Declared.model_validate_json((world.control.settings.xds / DECLARED).read_text())
    assert told.endpoints == {"credit": {"x": "drop", "y": "hash"}}


def test_approver_sees_what_answers_instead_and_what_the_log_keeps(world, rule):
    world.live(cell="a")
    made = world.live(
        cell="b", fallback=Fallback(default={"y": 0.5}, rule=rule, after_ms=300), personal={"x": "encrypt"}
    )
    shown = {c.name: c.after for c in difference(made, None).serving}
    assert shown["default answer"] == '{"y": 0.5}'
    assert shown["rule"] == rule.sha256
    assert shown["fallback after"] == "300 ms"
    assert shown["the log keeps of x"] == "encrypt"
