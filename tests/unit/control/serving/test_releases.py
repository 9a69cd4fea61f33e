"""Releases: who may make them, what they must be, and that they are made once."""

from __future__ import annotations

import pytest

from themisto.errors import Conflict, Invalid, NotFound, Refused
from themisto.serving.models import Artifact, Golden


def test_first_release_makes_the_endpoint_for_the_group(world):
    release = world.release()
    endpoint = world.endpoints.get(world.caller(), "credit")
    assert (release.number, release.author, endpoint.group, endpoint.tier) == (1, "scientist", "data-science", "dev")
    assert endpoint.stable is None


def test_same_content_gives_the_same_release_and_rollout(world, new_request):
    first = world.release()
    rollout = world.rollout_id()
    again, new = world.releases.create(world.caller("colleague"), "credit", new_request())
    assert (again, new, world.rollout_id()) == (first, False, rollout)


def test_same_content_after_a_failed_rollout_opens_another(world):
    first = world.release()
    failed = world.rollout_id()
    world.progress.failed(failed, "load", "Triton said no")
    assert world.release() == first
    assert world.rollout_id() != failed
    assert world.endpoints.get(world.caller(), "credit").rollout.state == "loading"


def test_hash_covers_the_author_and_the_endpoint(world):
    assert world.release("credit").hash != world.release("fraud").hash


def test_release_without_the_scope_is_refused_and_recorded(world, new_request):
    with pytest.raises(Refused, match="may not deploy"):
        world.releases.create(world.caller(scopes=()), "credit", new_request())
    assert (world.last_audit().action, world.last_audit().outcome) == ("release.create", "refused")


def test_release_for_a_group_of_others_is_refused(world, new_request):
    with pytest.raises(Refused, match="not in the group"):
        world.releases.create(world.caller("colleague", "other-team"), "credit", new_request())


def test_endpoint_of_another_group_is_refused_and_recorded(world, new_request):
    world.release()
    with pytest.raises(Refused, match="belongs to the group 'data-science'"):
        world.releases.create(world.caller("rival", "other-team"), "credit", new_request(group="other-team"))
    assert world.last_audit().outcome == "refused"
    assert world.releases.page(world.caller(), "credit")[0].number == 1


def test_tier_of_an_endpoint_never_changes(world, new_request):
    world.release()
    with pytest.raises(Conflict, match="dev endpoint"):
        world.releases.create(world.caller(), "credit", new_request(tier="prod"))


def test_another_release_while_one_is_on_its_way_is_a_conflict(world):
    world.release(cell="a")
    with pytest.raises(Conflict, match="on its way") as error:
        world.release(cell="b")
    assert "%deploy rollback credit" in error.value.remedy


def test_a_conflict_records_nothing(world):
    world.release(cell="a")
    events = len(world.audit())
    with pytest.raises(Conflict):
        world.release(cell="b")
    assert len(world.audit()) == events


def test_missing_artifact_is_not_found(world, new_request):
    with pytest.raises(NotFound, match="no artifact"):
        world.release(artifact=Artifact(kind="onnx", sha256="0" * 64, size_bytes=3))


def test_wrong_artifact_size_is_invalid(world, new_request):
    artifact = new_request().artifact
    with pytest.raises(Invalid, match="size"):
        world.release(artifact=artifact.model_copy(update={"size_bytes": 3}))


@pytest.mark.parametrize(
    "golden",
    [
        Golden(inputs={"z": [1.0]}, outputs={"y": [1.0]}),
        Golden(inputs={"x": [1.0]}, outputs={"y": [1.0, 2.0]}),
        Golden(inputs={"x": []}, outputs={"y": []}),
    ],
    ids=["another column", "other length", "no rows"],
)
def test_golden_requests_that_do_not_fit_are_invalid(world, golden):
    with pytest.raises(Invalid, match="golden"):
        world.release(golden=golden)


def test_prod_endpoint_is_demo_in_a_demo_workbench(world):
    world.release(tier="prod")
    assert world.endpoints.get(world.caller(), "credit").demo is True


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"isolation": "none", "public_url": "https://bank.example"}, "without isolation"),
        ({"isolation": "uid"}, "no TLS"),
    ],
)
def test_real_prod_endpoint_needs_isolation_and_tls(make_world, settings, reason):
    world = make_world(demo=False, **settings)
    with pytest.raises(Refused, match=reason):
        world.release(tier="prod")
    assert world.endpoints.page(world.caller()) == []


def test_real_prod_endpoint_with_both_is_not_demo(make_world):
    world = make_world(demo=False, isolation="uid", public_url="https://bank.example")
    world.release(tier="prod")
    assert world.endpoints.get(world.caller(), "credit").demo is False


def test_endpoint_of_another_group_is_not_found_for_readers(world):
    world.release()
    with pytest.raises(NotFound):
        world.endpoints.get(world.caller("rival", "other-team"), "credit")


def test_auditor_sees_endpoints_of_all_groups(world):
    world.release()
    assert len(world.endpoints.page(world.caller("reviewer", "model-risk", scopes=("audit",)))) == 1


def test_diff_shows_metrics_and_code(world):
    world.live(cell="a = 1\nmodel", metrics={"auc": 0.8})
    world.live(cell="a = 2\nmodel", metrics={"auc": 0.9})
    diff = world.endpoints.diff(world.caller(), "credit")
    assert (diff.stable, diff.candidate) == (1, 2)
    assert (diff.metrics[0].before, diff.metrics[0].after) == ("0.8", "0.9")
    assert "-a = 1" in diff.code
    assert "+a = 2" in diff.code
