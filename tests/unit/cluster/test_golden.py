"""Renderings are what they were, and what the schemas of Kubernetes, Istio and KServe take.

After a change that is meant: THEMISTO_GOLDEN=write, look at the difference, commit it.
"""

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml
from tests.unit.cluster.plans import placed, plan, release, rendered, settings

from themisto.serving.models import Artifact

HERE = Path(__file__).parent
BUCKET = {"store": "s3://models/themisto", "store_cidrs": ("10.0.8.0/24",)}
MESH = {"istio_gateways": ("istio-system/ingress",), "istio_host": "models.bank.example"}
CODE = Artifact(kind="python", sha256="c0" * 32, size_bytes=2000)
LOST = ("prediction-log", "fallback")
CASES = {
    "kubernetes-canary": lambda: rendered(plan("canary"), "kubernetes"),
    "kubernetes-gpu-bucket": lambda: rendered(
        plan(stable=placed(release(7, profile="gpu-mig-1g"), 100), previous=None), "kubernetes", settings(**BUCKET)
    ),
    "kubernetes-code": lambda: rendered(
        plan(stable=placed(release(7, artifact=CODE), 100), previous=None), "kubernetes"
    ),
    "istio-canary": lambda: rendered(plan("canary", 30), "istio", settings(**MESH), without=LOST),
    "istio-shadow": lambda: rendered(plan("shadow"), "istio", without=LOST),
    "kserve-stable": lambda: rendered(plan(), "kserve", settings(**BUCKET), without=(*LOST, "tokens", "breaker")),
    "kserve-canary": lambda: rendered(
        plan("canary"), "kserve", settings(**BUCKET), without=(*LOST, "tokens", "breaker")
    ),
}


def documents(text: str) -> list[dict]:
    """As kubectl reads them."""
    return list(yaml.safe_load_all(text))


def schema(one: dict) -> dict:
    return json.loads((HERE / "schemas" / f"{one['apiVersion'].replace('/', '_')}_{one['kind']}.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_rendering_is_the_golden_one(case):
    text = CASES[case]()
    golden = HERE / "golden" / f"{case}.yaml"
    if os.environ.get("THEMISTO_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("case", CASES)
def test_every_object_fits_its_schema(case):
    found = documents(CASES[case]())
    assert found
    for one in found:
        jsonschema.validate(one, schema(one), jsonschema.Draft202012Validator)


@pytest.mark.parametrize(
    ("case", "kind", "path", "wrong"),
    [
        ("kubernetes-canary", "Deployment", ("spec", "template", "spec", "containers", 0, "imagePolicy"), "Always"),
        ("kubernetes-canary", "HorizontalPodAutoscaler", ("spec", "maxReplicas"), "ten"),
        ("istio-canary", "VirtualService", ("spec", "http", 0, "route", 0, "weight"), "half"),
        ("kserve-canary", "InferenceService", ("spec", "predictor", "canaryTrafficPercent"), "5"),
    ],
)
def test_schema_refuses_what_is_wrong(case, kind, path, wrong):
    one = next(d for d in documents(CASES[case]()) if d["kind"] == kind)
    place = one
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(one, schema(one), jsonschema.Draft202012Validator)
