"""What a target does not honour is refused with a way out; the docs' table is the code's."""

from pathlib import Path
from typing import get_args

import pytest
from tests.unit.cluster.plans import placed, plan, release

from themisto.errors import Invalid, Refused
from themisto.serving.models import Artifact, Fallback
from themisto_hub.cluster.capabilities import TABLE, TARGETS, WAIVABLE, Feature, check, markdown, needs
from themisto_hub.cluster.plan import require_approval

DOCS = Path(__file__).resolve().parents[3] / "docs" / "cluster-serving.md"
ENTITIES = plan(stable=placed(release(7, feature_service="applicant@2"), 100))
CODE = plan(stable=placed(release(7, artifact=Artifact(kind="python", sha256="c0" * 32, size_bytes=1)), 100))
ASKED = {
    "stable": plan(),
    "canary": plan("canary"),
    "ab": plan("ab", 50),
    "shadow": plan("shadow"),
    "entities": ENTITIES,
    "code": CODE,
}
REFUSED = {
    "kubernetes": set(),
    "kserve": {"ab", "shadow", "entities", "code"},
    "istio": {"ab", "entities"},
}


def test_every_feature_is_told_for_every_target():
    assert set(TABLE) == set(get_args(Feature))
    assert all(tuple(by_target) == TARGETS for _, by_target in TABLE.values())


def test_the_docs_hold_the_table():
    assert markdown() in DOCS.read_text()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("asked", ASKED)
def test_what_a_target_cannot_honour_is_refused(asked, target):
    if asked not in REFUSED[target]:
        check(ASKED[asked], target, without=WAIVABLE)
        return
    with pytest.raises(Invalid) as raised:
        check(ASKED[asked], target, without=WAIVABLE)
    assert "credit" in raised.value.detail
    assert "kubernetes" in raised.value.remedy


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_release_declares_is_dropped_nowhere(target):
    declares = plan(stable=placed(release(7, fallback=Fallback(default={"label": 0})), 100))
    with pytest.raises(Invalid, match="declares what answers in its place") as raised:
        check(declares, target, without=WAIVABLE)
    assert raised.value.remedy == "Serve it on one machine, or release it without."


def test_every_refusal_follows_from_the_table():
    for target in TARGETS:
        for asked, of in ASKED.items():
            lost = {f for f in needs(of) if TABLE[f][1][target].honours == "no"} - WAIVABLE
            assert bool(lost) == (asked in REFUSED[target]), (target, asked)


def test_kubernetes_honours_everything_and_needs_no_word():
    for of in ASKED.values():
        check(of, "kubernetes")


def test_what_every_endpoint_has_is_not_lost_silently():
    with pytest.raises(Invalid) as raised:
        check(plan(), "istio")
    assert "prediction log" in raised.value.detail
    assert raised.value.remedy.endswith("--without fallback prediction-log.")
    with pytest.raises(Invalid, match="prediction log"):
        check(plan(), "istio", without=("fallback",))
    check(plan(), "istio", without=("fallback", "prediction-log"))


def test_a_shadow_cannot_be_waived():
    with pytest.raises(Invalid, match="cannot go without shadow"):
        check(plan("shadow"), "kserve", without=("shadow",))


def test_dev_needs_no_approval():
    require_approval(plan(tier="dev", stable=placed(release(7, tier="dev"), 100, approved=False), previous=None))


@pytest.mark.parametrize("role", ["stable", "candidate", "previous"])
def test_a_prod_release_that_nobody_approved_is_refused(role):
    parts = {"stable": (7, 95), "candidate": (8, 5), "previous": (6, 0)}
    number, weight = parts[role]
    with pytest.raises(Refused, match=f"credit@{number} is for prod and nobody has approved it"):
        require_approval(plan("canary", **{role: placed(release(number), weight, approved=False)}))


def test_an_approval_of_other_content_is_refused():
    from tests.unit.cluster.plans import approval

    changed = placed(release(7), 100).model_copy(update={"approval": approval(release(7), release_hash="0" * 64)})
    with pytest.raises(Refused, match="is not the release that reviewer approved"):
        require_approval(plan(stable=changed))


def test_a_refusal_is_no_approval():
    from tests.unit.cluster.plans import approval

    refused = placed(release(7), 100).model_copy(update={"approval": approval(release(7), decision="refuse")})
    with pytest.raises(Refused):
        require_approval(plan(stable=refused))
