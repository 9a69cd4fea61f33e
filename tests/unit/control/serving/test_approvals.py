"""Approvals: another person, a fresh login, what she saw, once."""

from __future__ import annotations

import pytest

from themisto.errors import Conflict, Invalid, Refused
from themisto_hub.control.serving.tables import EndpointRow, ReleaseRow


@pytest.fixture
def waiting(world):
    """A prod rollout that waits for approval; its id."""
    world.release(tier="prod")
    rollout = world.rollout_id()
    world.progress.proved(rollout, "goldens repeated")
    return rollout


def state(world):
    return world.endpoints.get(world.caller(), "credit").rollout.state


def test_prod_waits_after_its_proof_and_nothing_may_be_loaded(world, waiting):
    assert state(world) == "waiting_approval"
    assert (world.progress.live(), world.progress.unfinished()) == ([], [])


def test_loading_without_approval_is_ignored(world):
    world.release(tier="prod")
    world.progress.loaded(world.rollout_id(), "answers")
    assert world.endpoints.get(world.caller(), "credit").stable is None


def test_waiting_rollout_names_its_review_page(world, waiting):
    rollout = world.rollouts.get(world.caller(), "credit", waiting)
    assert rollout.review_url == f"{world.control.settings.review_url}/approve/{waiting}"


def test_approved_rollout_goes_on(world, waiting):
    review, ticket = world.approvals.open(world.login(), waiting)
    rollout = world.approvals.decide(ticket, "approve")
    assert (rollout.state, rollout.approvals[0].by) == ("loading", "reviewer")
    assert rollout.approvals[0].release_hash == review.release.hash
    assert [work.needs_proof for work in world.progress.unfinished()] == [False]


def test_approval_signs_the_audit_head(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    world.approvals.decide(ticket, "approve")
    assert (world.control.settings.folder("control") / "audit" / "heads.jsonl").exists()


def test_refused_rollout_ends_with_the_reason(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    rollout = world.approvals.decide(ticket, "refuse", "no challenger model")
    assert (rollout.state, rollout.message) == ("refused", "refused by reviewer: no challenger model")


def test_refusal_needs_a_reason_and_keeps_the_ticket(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    with pytest.raises(Invalid, match="needs a reason"):
        world.approvals.decide(ticket, "refuse", "  ")
    assert world.approvals.decide(ticket, "approve").state == "loading"


@pytest.mark.parametrize("groups", [("model-risk",), ("model-risk", "platform-admins")], ids=["approver", "admin"])
@pytest.mark.parametrize("name", ["scientist", "Scientist"])
def test_author_is_refused_admin_or_not(world, waiting, name, groups):
    with pytest.raises(Refused, match="cannot approve"):
        world.approvals.open(world.login(name, *groups), waiting)
    assert (world.last_audit().actor, world.last_audit().outcome) == (name, "refused")


def test_who_asked_for_the_rollout_is_refused(world, new_request):
    world.release(tier="prod")
    world.progress.failed(world.rollout_id(), "prove", "no")
    world.releases.create(world.caller("colleague"), "credit", new_request(tier="prod"))
    world.progress.proved(world.rollout_id(), "proved")
    with pytest.raises(Refused, match="asked for this rollout"):
        world.approvals.open(world.login("colleague"), world.rollout_id())


def test_admin_outside_the_approving_groups_is_refused(world, waiting):
    with pytest.raises(Refused, match="no group that approves"):
        world.approvals.open(world.login("admin", "platform-admins"), waiting)
    assert world.last_audit().outcome == "refused"


def test_login_older_than_five_minutes_is_refused(world, waiting):
    login = world.login()
    world.clock.pass_(minutes=6)
    with pytest.raises(Refused, match="five minutes"):
        world.approvals.open(login, waiting)


def test_ticket_dies_five_minutes_after_the_login(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    world.clock.pass_(minutes=6)
    with pytest.raises(Refused, match="five minutes"):
        world.approvals.decide(ticket, "approve")
    assert state(world) == "waiting_approval"


def test_replayed_ticket_is_refused_and_recorded(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    world.approvals.decide(ticket, "approve")
    with pytest.raises(Refused, match="used before"):
        world.approvals.decide(ticket, "approve")
    assert (world.last_audit().action, world.last_audit().outcome) == ("rollout.decide", "refused")


def test_unknown_ticket_is_refused(world, waiting):
    with pytest.raises(Refused, match="not known"):
        world.approvals.decide("made up", "approve")


def test_release_that_changed_is_a_conflict(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    with world.control.db.write() as session:
        row = session.query(ReleaseRow).one()
        row.content = row.content | {"cell": "something else"}
    with pytest.raises(Conflict, match="not the one that was shown"):
        world.approvals.decide(ticket, "approve")
    assert (state(world), world.last_audit().outcome) == ("waiting_approval", "refused")


def test_other_stable_release_since_then_is_a_conflict(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    with world.control.db.write() as session:
        session.get(EndpointRow, "credit").stable = 1
    with pytest.raises(Conflict, match="became stable meanwhile"):
        world.approvals.decide(ticket, "approve")


def test_withdrawn_rollout_cannot_be_approved(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    world.rollouts.rollback(world.caller(), "credit")
    with pytest.raises(Conflict, match="does not wait"):
        world.approvals.decide(ticket, "approve")


def test_decided_rollout_is_not_shown_for_decision_again(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    world.approvals.decide(ticket, "approve")
    with pytest.raises(Conflict, match="approved by reviewer"):
        world.approvals.open(world.login("second", "model-risk"), waiting)


def test_no_token_approves_over_the_api(world, waiting):
    admin = world.caller("admin", "platform-admins", scopes=("approve", "admin"))
    with pytest.raises(Refused, match="No token"):
        world.rollouts.refuse_approval(admin, "credit", waiting)
    assert (world.last_audit().action, world.last_audit().outcome) == ("rollout.approve", "refused")


def test_only_approvers_see_what_waits(world, waiting):
    assert [r.rollout.id for r in world.approvals.waiting(world.login())] == [waiting]
    with pytest.raises(Refused):
        world.approvals.waiting(world.login("scientist", "data-science"))


def test_database_holds_no_usable_ticket(world, waiting):
    _, ticket = world.approvals.open(world.login(), waiting)
    path = world.control.settings.folder("control") / "control.db"
    assert ticket.encode() not in path.read_bytes() + (path.parent / "control.db-wal").read_bytes()
