"""Whatever people name their endpoints, profiles and columns, and however traffic is shared: the objects are valid."""

import doctest
import re

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from ruamel.yaml import YAML
from tests.unit.cluster.plans import PROFILES, placed, plan, release, rendered, settings, table

from themisto.errors import Invalid
from themisto.profiles import Profile
from themisto.serving.models import Artifact, Column, Signature
from themisto_hub.cluster.capabilities import WAIVABLE
from themisto_hub.cluster.container import resources
from themisto_hub.cluster.manifest import dump, plain
from themisto_hub.cluster.names import label, name
from themisto_hub.cluster.render import render

DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
QUANTITY = re.compile(r"[0-9]+(m|Ki|Mi|Gi)?")

SLUG = st.from_regex(r"[a-z][a-z0-9_-]{0,47}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
STRATEGY = st.sampled_from([None, "canary", "shadow"])
TARGET = st.sampled_from(["kubernetes", "istio", "kserve"])
BUCKET = {"store": "s3://models/themisto", "store_cidrs": ("10.0.8.0/24",)}


@given(SLUG, SLUG, SLUG, TEXT, st.integers(1, 10**8), st.integers(0, 100), STRATEGY, TARGET, st.booleans())
@effort(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_objects_are_valid(endpoint, group, profile, text, number, weight, strategy, target, code):
    shadow = strategy == "shadow"
    if target == "kserve" and (shadow or code):
        return
    share = 0 if strategy is None or shadow else weight
    content = {
        "group": group,
        "profile": profile,
        "author": re.sub(r"[\s/\\\x00-\x1f]", "x", text),
        "artifact": Artifact(kind="python" if code else "onnx", sha256="a" * 64, size_bytes=2**31),
        "signature": Signature(inputs=(Column(name=text, dtype="BYTES"),), outputs=(Column(name="y", dtype="FP32"),)),
    }
    of = plan(
        strategy,
        endpoint=endpoint,
        group=group,
        stable=placed(release(number, endpoint, **content), 100 - share),
        candidate=placed(release(number + 1, endpoint, **content), share, shadow=shadow) if strategy else None,
        previous=None,
    )
    profiles = {profile: PROFILES["cpu-small"].model_copy(update={"name": profile})}
    text = render(of, target, profiles, settings(**BUCKET), table=table(of), without=WAIVABLE).text
    found = list(yaml.safe_load_all(text))
    assert found == list(YAML(typ="safe").load_all(text))
    assert len({(one["kind"], one["metadata"]["name"]) for one in found}) == len(found)
    for one in found:
        assert_valid(one)
    if target == "istio":
        assert_weights(next(one for one in found if one["kind"] == "VirtualService"), of)


def assert_valid(one):
    metadata = one["metadata"]
    assert DNS_LABEL.fullmatch(metadata["name"])
    for labels in every("labels", one) + every("matchLabels", one):
        for key, value in labels.items():
            assert LABEL_KEY.fullmatch(key)
            assert LABEL_VALUE.fullmatch(value)
    for annotations in every("annotations", one):
        assert all(LABEL_KEY.fullmatch(key) and isinstance(value, str) for key, value in annotations.items())
    for amounts in every("limits", one) + every("requests", one):
        assert all(QUANTITY.fullmatch(amount) for amount in amounts.values())


def assert_weights(service, of):
    (route,) = service["spec"]["http"]
    assert sum(share["weight"] for share in route["route"]) == 100
    assert {share["destination"]["subset"]: share["weight"] for share in route["route"]} == {
        f"release-{p.release.number}": p.weight_pct for p in of.placed if p.weight_pct
    }


def every(key, value):
    """All maps under the key, however deep."""
    if isinstance(value, dict):
        here = [value[key]] if isinstance(value.get(key), dict) else []
        return here + [found for one in value.values() for found in every(key, one)]
    if isinstance(value, list):
        return [found for one in value for found in every(key, one)]
    return []


@given(st.lists(SLUG, min_size=1, max_size=4), st.integers(20, 63))
def test_names_are_dns_labels(parts, limit):
    assert DNS_LABEL.fullmatch(name(*parts, limit=limit))
    assert len(name(*parts, limit=limit)) <= limit


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.lists(SLUG, min_size=n, max_size=n)] * 2)))
def test_other_parts_of_the_same_number_have_another_name(both):
    these, those = both
    assert (name(*these) == name(*those)) == (these == those)


@pytest.mark.parametrize(
    ("these", "those"),
    [
        (("a", "b-c"), ("a-b", "c")),
        (("a_b",), ("a-b",)),
        (("a-",), ("a",)),
        (("a" * 48, "b" * 48), ("a" * 48, "b" * 47)),
    ],
)
def test_names_that_look_alike_are_told_apart(these, those):
    assert name(*these) != name(*those)


@given(st.text(min_size=1, max_size=100))
def test_labels_are_valid(value):
    assert LABEL_VALUE.fullmatch(label(value))


@given(st.dictionaries(SLUG, TEXT | st.text("on yes\n\t#:'\"{}[]&*!|>-%@`", max_size=20), max_size=5))
def test_text_stays_text_for_every_reader(data):
    one = {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}
    text = dump([one])
    assert list(yaml.safe_load_all(text)) == [one]
    assert list(YAML(typ="safe").load_all(text)) == [one]


@given(st.floats(1e-4, 1e4), st.floats(0.001, 1e4), st.integers(1, 16))
def test_shapes_are_quantities(cpu, memory_gib, count):
    shape = PROFILES["gpu-mig-1g"].model_dump() | {"cpu": cpu, "memory_gib": memory_gib}
    shape["gpu"] = {"mig": "1g.10gb+me", "count": count}
    asked = plain(resources(Profile.model_validate(shape)))
    assert asked["limits"] == asked["requests"]
    assert all(QUANTITY.fullmatch(amount) for amount in asked["limits"].values())
    assert asked["limits"]["nvidia.com/mig-1g.10gb.me"] == str(count)
    assert asked["limits"]["cpu"] != "0m"


@pytest.mark.parametrize("change", [{"cpu": 1e9}, {"memory_gib": 1e-9}, {"memory_gib": 1e300}])
def test_shape_that_no_node_has_is_refused(change):
    with pytest.raises(Invalid, match="No node is of the shape"):
        resources(PROFILES["cpu-small"].model_copy(update=change))


def test_the_same_plan_gives_the_same_bytes():
    assert rendered(plan("canary"), "kubernetes") == rendered(plan("canary"), "kubernetes")


def test_the_example_of_a_name_holds():
    from themisto_hub.cluster import names

    done = doctest.testmod(names)
    assert (done.failed, done.attempted) == (0, 2)
