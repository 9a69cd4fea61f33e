"""Names: claimed, versioned, handed over, retired, given back; never silently taken."""

from __future__ import annotations

import pytest

from themisto.errors import Conflict, Invalid, NotFound, Refused
from themisto.serving.models import Column, Signature
from themisto.serving.names import base_of, is_endpoint_name, version_name, version_of
from themisto_hub.control.serving.routing import Routing

WIDER = Signature(
    inputs=(Column(name="x", dtype="FP32"), Column(name="z", dtype="FP32")), outputs=(Column(name="y", dtype="FP32"),)
)


def wider(**change):
    from themisto.serving.models import Golden

    golden = Golden(inputs={"x": [1.0], "z": [1.0]}, outputs={"y": [2.0]})
    return {"signature": WIDER, "golden": golden, **change}


@pytest.fixture
def rival(world):
    return world.caller("colleague", "other-team")


def handed_over(world, rival, name="credit"):
    world.names.offer(world.caller(), name, "other-team")
    return world.names.accept(rival, name)


@pytest.mark.parametrize(
    "name", ["credit.v1", "credit.v0", "credit.v1000", "credit.2", "credit.v2.v3", ".v2", "a" * 49]
)
def test_these_are_no_names(name):
    assert not is_endpoint_name(name)


@pytest.mark.parametrize("name", ["credit", "credit.v2", "credit.v10", "credit.v999", "a" * 45 + ".v2"])
def test_a_name_is_its_base_and_version(name):
    assert is_endpoint_name(name)
    assert version_name(base_of(name), version_of(name)) == name


def test_a_version_whose_name_would_be_too_long_is_refused():
    with pytest.raises(Invalid, match="cannot be a version's name"):
        version_name("a" * 48, 2)


# claim


def test_a_claimed_name_is_the_groups_and_nothing_answers(world):
    made = world.names.claim(world.caller(), "credit", "data-science")
    assert (made.group, made.stable, made.retired) == ("data-science", None, False)
    assert world.last_audit().action == "endpoint.claim"


def test_claiming_again_changes_nothing(world):
    first = world.names.claim(world.caller(), "credit", "data-science")
    assert world.names.claim(world.caller("colleague"), "credit", "data-science") == first
    assert len(world.audit()) == 1


def test_a_name_of_another_group_is_refused_with_who_owns_it(world, rival):
    world.names.claim(world.caller(), "credit", "data-science")
    with pytest.raises(Refused, match="belongs to the group 'data-science'"):
        world.names.claim(rival, "credit", "other-team")
    assert (world.last_audit().action, world.last_audit().outcome) == ("endpoint.claim", "refused")


def test_the_first_release_of_a_claimed_name_says_its_tier(world):
    world.names.claim(world.caller(), "credit", "data-science")
    world.release(tier="prod")
    assert world.endpoints.get(world.caller(), "credit").tier == "prod"
    with pytest.raises(Conflict, match="tier never changes"):
        world.release(tier="dev", cell="b")


def test_claiming_for_a_group_of_others_or_without_the_right_is_refused(world):
    with pytest.raises(Refused, match="not in the group"):
        world.names.claim(world.caller(), "credit", "other-team")
    with pytest.raises(Refused, match="may not deploy"):
        world.names.claim(world.caller(scopes=()), "credit", "data-science")


def test_a_version_is_not_claimed(world):
    with pytest.raises(Invalid, match="version, not a name"):
        world.names.claim(world.caller(), "credit.v2", "data-science")


# versions and the contract


def test_a_release_that_breaks_callers_is_refused_naming_what_breaks(world):
    world.live()
    with pytest.raises(Conflict, match=r"break those who call credit@1: the input 'z' \(FP32\) is newly") as error:
        world.release(**wider())
    assert "--new-version" in error.value.remedy
    assert [r.number for r in world.releases.page(world.caller(), "credit")] == [1]


def test_before_anything_answers_there_are_no_callers_to_break(world):
    world.release()
    world.progress.failed(world.rollout_id(), "load", "no")
    assert world.live(**wider()).number == 2


def test_a_known_release_is_held_against_what_is_stable_now(world):
    world.release(**wider())
    world.progress.failed(world.rollout_id(), "load", "no")
    world.live()
    with pytest.raises(Conflict, match="newly required"):
        world.release(**wider())


def test_the_next_version_answers_beside_the_first(world):
    world.live()
    opened = world.names.open_version(world.caller(), "credit")
    assert (opened.name, opened.group) == ("credit.v2", "data-science")
    world.live("credit.v2", **wider())
    table = Routing(world.control, lambda _: ("127.0.0.1:1", "127.0.0.1:2")).table()
    assert {r.name: r.releases[0].title for r in table.endpoints} == {
        "credit": "credit@1", "credit.v2": "credit.v2@1",
    }  # fmt: skip


def test_a_version_that_never_answered_is_given_again(world):
    world.live()
    names = [world.names.open_version(world.caller(), name).name for name in ("credit", "credit.v2", "credit")]
    assert names == ["credit.v2"] * 3


def test_after_one_that_answers_comes_the_next(world):
    world.live()
    world.names.open_version(world.caller(), "credit")
    world.live("credit.v2", **wider())
    assert world.names.open_version(world.caller(), "credit").name == "credit.v3"


def test_the_number_of_a_retired_version_does_not_return(world):
    world.live()
    world.names.open_version(world.caller(), "credit")
    world.live("credit.v2", **wider())
    world.rollouts.retire(world.caller(), "credit.v2")
    assert world.names.open_version(world.caller(), "credit").name == "credit.v3"


def test_a_version_that_was_not_opened_cannot_be_deployed_to(world):
    world.live()
    with pytest.raises(NotFound, match=r"no version 'credit\.v2'"):
        world.release("credit.v2")


def test_a_version_of_another_groups_name_is_refused(world, rival):
    world.live()
    with pytest.raises(Refused, match="belongs to the group"):
        world.names.open_version(rival, "credit")


def test_a_version_needs_something_to_stand_beside(world):
    world.names.claim(world.caller(), "credit", "data-science")
    with pytest.raises(Conflict, match="no release that answers"):
        world.names.open_version(world.caller(), "credit")


def test_an_underscore_in_a_name_is_no_wildcard(world):
    world.live("a_b")
    world.live("axb")
    world.names.open_version(world.caller(), "axb")
    assert world.names.open_version(world.caller(), "a_b").name == "a_b.v2"


# transfer


def test_a_transfer_takes_an_offer_and_its_acceptance(world, rival):
    world.live()
    assert world.names.offer(world.caller(), "credit", "other-team").offered_to == "other-team"
    now = world.names.accept(rival, "credit")
    assert (now.group, now.offered_to) == ("other-team", None)
    assert [row.action for row in world.audit()][-2:] == ["endpoint.offer", "endpoint.transfer"]


def test_whoever_is_offered_a_name_finds_it_in_the_list_but_not_what_goes_on_there(world, rival):
    world.live()
    assert world.endpoints.page(rival) == []
    world.names.offer(world.caller(), "credit", "other-team")
    (seen,) = world.endpoints.page(rival)
    assert (seen.name, seen.offered_to, seen.rollout) == ("credit", "other-team", None)
    assert world.endpoints.page(world.caller("third", "third-team")) == []
    assert world.endpoints.page(world.caller())[0].rollout is not None


def test_rights_to_call_follow_the_new_group(world, rival):
    world.live()
    handed_over(world, rival)
    routing = Routing(world.control, lambda _: ("127.0.0.1:1", "127.0.0.1:2"))
    assert [route.group for route in routing.table().endpoints] == ["other-team"]


@pytest.mark.parametrize(("group", "hint"), [("other-taem", "Did you mean other-team"), ("model-risk", "There are: ")])
def test_a_name_is_offered_only_to_who_can_take_it(world, group, hint):
    world.live()
    with pytest.raises(NotFound, match=f"no group '{group}' that can take a name over") as error:
        world.names.offer(world.caller(), "credit", group)
    assert error.value.remedy.startswith(hint)
    assert world.endpoints.get(world.caller(), "credit").offered_to is None


def test_versions_go_with_their_name(world, rival):
    world.live()
    world.names.open_version(world.caller(), "credit")
    handed_over(world, rival)
    assert world.endpoints.get(rival, "credit.v2").group == "other-team"
    with pytest.raises(Invalid, match="goes with its name"):
        world.names.offer(rival, "credit.v2", "data-science")


def test_releases_keep_their_authors_and_the_new_group_sees_them(world, rival):
    world.live()
    handed_over(world, rival)
    assert [r.author for r in world.releases.page(rival, "credit")] == ["scientist"]
    with pytest.raises(NotFound):
        world.releases.page(world.caller(), "credit")


def test_only_the_owner_offers_and_only_the_named_group_accepts(world, rival):
    world.live()
    with pytest.raises(Refused):
        world.names.offer(rival, "credit", "other-team")
    world.names.offer(world.caller(), "credit", "other-team")
    with pytest.raises(Refused, match="another group"):
        world.names.accept(world.caller("third", "third-team"), "credit")
    with pytest.raises(Refused, match="may not deploy"):
        world.names.accept(world.caller("colleague", "other-team", scopes=()), "credit")
    assert world.last_audit().outcome == "refused"


def test_without_an_offer_nothing_is_accepted(world, rival):
    world.live()
    with pytest.raises(Conflict, match="offered to nobody"):
        world.names.accept(rival, "credit")
    world.names.offer(world.caller(), "credit", "other-team")
    assert world.names.withdraw(world.caller(), "credit").offered_to is None
    with pytest.raises(Conflict, match="offered to nobody"):
        world.names.accept(rival, "credit")


def test_nothing_is_handed_over_while_a_rollout_is_on_its_way(world, rival):
    world.live(cell="a")
    world.names.offer(world.caller(), "credit", "other-team")
    world.live(cell="b")
    for step in (
        lambda: world.names.accept(rival, "credit"),
        lambda: world.names.offer(world.caller(), "credit", "other-team"),
    ):
        with pytest.raises(Conflict, match="credit@2 is on its way"):
            step()
    assert world.endpoints.get(world.caller(), "credit").group == "data-science"


def test_an_offer_to_oneself_is_a_mistake(world):
    world.live()
    with pytest.raises(Invalid, match="already"):
        world.names.offer(world.caller(), "credit", "data-science")


# retire and give back


@pytest.fixture
def admin(world):
    return world.caller("admin", "platform-admins", scopes=("admin",))


def test_a_retired_name_stays_its_groups(world, rival, new_request):
    world.live()
    world.rollouts.retire(world.caller(), "credit")
    with pytest.raises(Refused, match="belongs to the group 'data-science'"):
        world.releases.create(rival, "credit", new_request(group="other-team"))
    assert world.live(cell="b").number == 2


def test_a_name_is_given_back_after_the_grace_period_only(world, admin):
    world.live()
    with pytest.raises(Conflict, match="not retired"):
        world.names.free(admin, "credit")
    world.rollouts.retire(world.caller(), "credit")
    world.clock.pass_(days=89)
    with pytest.raises(Conflict, match="for 90 days"):
        world.names.free(admin, "credit")
    world.clock.pass_(days=2)
    world.names.free(admin, "credit")
    assert world.last_audit().action == "endpoint.free"
    with pytest.raises(NotFound):
        world.endpoints.get(admin, "credit")
    assert world.endpoints.page(admin) == []


def test_only_an_admin_gives_a_name_back(world):
    world.live()
    world.rollouts.retire(world.caller(), "credit")
    world.clock.pass_(days=91)
    with pytest.raises(Refused, match="may not run the platform"):
        world.names.free(world.caller(), "credit")


def test_who_claims_a_freed_name_counts_on_and_sees_nothing_of_before(world, admin, rival, new_request):
    world.live(tier="prod")
    world.rollouts.retire(world.caller(), "credit")
    world.clock.pass_(days=91)
    world.names.free(admin, "credit")
    assert world.names.claim(rival, "credit", "other-team").rollout is None
    made, _ = world.releases.create(rival, "credit", new_request(group="other-team"))
    assert (made.number, made.tier) == (2, "dev")
    assert [r.number for r in world.releases.page(rival, "credit")] == [2]
    with pytest.raises(NotFound, match="former owner"):
        world.releases.get(rival, "credit", 1)
    assert world.releases.get(admin, "credit", 1).author == "scientist"


def test_a_rollback_never_reaches_a_former_owners_release(world, admin, rival, new_request):
    world.live()
    world.rollouts.retire(world.caller(), "credit")
    world.clock.pass_(days=91)
    world.names.free(admin, "credit")
    for cell in ("a", "b"):
        world.releases.create(rival, "credit", new_request(group="other-team", cell=cell))
        world.progress.loaded(world.progress.unfinished()[-1].rollout, "answers")
    rollout = world.endpoints.get(rival, "credit").rollout.id
    world.rollouts.promote(rival, "credit", rollout)
    assert world.rollouts.rollback(rival, "credit").stable == 2
    with pytest.raises(Conflict, match="no earlier release"):
        world.rollouts.rollback(rival, "credit")


def test_the_chain_holds_after_all_that(world, admin, rival):
    world.live()
    handed_over(world, rival)
    with world.control.db.read() as session:
        assert world.control.audit.verify(session).intact
