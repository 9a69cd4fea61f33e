"""The review page over real HTTP, with a real login at the embedded identity provider."""

from __future__ import annotations

import re

import httpx
import pytest

from themisto_hub.control.serving.tables import ReleaseRow

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def waiting(plane, new_request):
    """A prod rollout that waits for approval; the page on which to decide."""
    plane.upload(b"model")
    made = plane.call("POST", "/endpoints/credit/releases", json=new_request(tier="prod", cell="<script>x</script>"))
    assert made.status_code == 201, made.text
    plane.control.serving.progress.proved(plane.endpoint("credit")["rollout"]["id"], "goldens repeated")
    return plane.endpoint("credit")["rollout"]["review_url"]


def test_second_person_approves_after_a_fresh_login(plane, review, browser, waiting):
    page = browser.open(waiting, "reviewer")
    assert "credit@1" in page.text
    answer = browser.decide(page, "approve")
    assert (answer.status_code, 'id="decided"' in answer.text) == (200, True)
    rollout = plane.endpoint("credit")["rollout"]
    assert (rollout["state"], rollout["approvals"][0]["by"]) == ("loading", "reviewer")
    assert plane.audit(action="rollout.approve", outcome="done")[0].actor == "reviewer"


def test_password_is_asked_for_in_spite_of_a_session(plane, review, browser, waiting):
    browser.open(waiting, "reviewer")
    assert 'name="password"' in browser.http.get(waiting).text


def test_refusal_ends_the_rollout_with_its_reason(plane, review, browser, waiting):
    page = browser.open(waiting, "reviewer")
    browser.decide(page, "refuse", reason="no challenger")
    rollout = plane.endpoint("credit")["rollout"]
    assert (rollout["state"], rollout["message"]) == ("refused", "refused by reviewer: no challenger")


@pytest.mark.parametrize("person", ["scientist", "admin", "colleague"])
def test_who_may_not_approve_sees_no_form_and_is_recorded(plane, review, browser, waiting, person):
    page = browser.open(waiting, person)
    assert (page.status_code, "ticket" in page.text) == (403, False)
    assert plane.audit(outcome="refused")[-1].actor == person


def test_author_who_became_an_approver_is_refused(plane, review, browser, waiting, settings):
    users = settings.folder("idp") / "users.yaml"
    users.write_text(users.read_text().replace("- data-science", "- model-risk", 1))
    page = browser.open(waiting, "scientist")
    assert page.status_code == 403
    assert "made credit@1 and cannot approve it" in page.text


def test_ticket_works_once(plane, review, browser, waiting):
    page = browser.open(waiting, "reviewer")
    browser.decide(page, "approve")
    again = browser.decide(page, "approve")
    assert (again.status_code, "used before" in again.text) == (403, True)


def test_release_that_changed_is_409(plane, review, browser, waiting):
    page = browser.open(waiting, "reviewer")
    with plane.control.db.write() as session:
        row = session.query(ReleaseRow).one()
        row.content = row.content | {"cell": "other"}
    assert browser.decide(page, "approve").status_code == 409


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://127.0.0.1:8000"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}]
)
def test_form_of_another_origin_does_not_decide(plane, review, browser, waiting, headers):
    page = browser.open(waiting, "reviewer")
    assert browser.decide(page, "approve", **headers).status_code == 403
    assert plane.endpoint("credit")["rollout"]["state"] == "waiting_approval"
    assert plane.audit(outcome="refused")


def test_cookies_of_the_approver_decide_nothing(plane, review, browser, waiting):
    page = browser.open(waiting, "reviewer")
    answer = browser.http.post(f"{review}/decide", data={"decision": "approve"}, headers={"Origin": review})
    assert answer.status_code == 403
    assert page.headers.get("set-cookie", "").find("ticket") == -1


def test_page_cannot_be_framed_or_scripted(review, browser, waiting):
    page = browser.open(waiting, "reviewer")
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "<script>x" not in page.text
    assert "&lt;script&gt;x" in page.text


def test_script_or_frame_cannot_begin_a_login(review, waiting):
    answer = httpx.get(waiting, headers={"Sec-Fetch-Dest": "iframe"})
    assert answer.status_code == 403


def test_forged_callback_is_refused(review, idp):
    assert httpx.get(f"{review}/callback?code=x&state=y").status_code == 403


def test_list_shows_what_waits_to_approvers_only(review, browser, waiting):
    page = browser.open(f"{review}/", "reviewer")
    assert re.search(r'href="/approve/[0-9A-Z]{26}">credit@1<', page.text)


def test_list_is_refused_to_others(review, browser, waiting):
    assert browser.open(f"{review}/", "scientist").status_code == 403


def test_unknown_rollout_is_404(review, browser):
    assert httpx.get(f"{review}/approve/..%2f..", follow_redirects=True).status_code == 404
    assert browser.open(f"{review}/approve/01ARZ3NDEKTSV4RRFFQ69G5FAV", "reviewer").status_code == 404


def test_provider_that_is_down_is_one_sentence(plane, review, waiting):
    answer = httpx.get(waiting)
    assert (answer.status_code, "identity provider does not answer" in answer.text) == (503, True)


@pytest.mark.parametrize("person", ["scientist", "admin"])
def test_no_token_approves_over_the_api(plane, waiting, person):
    rollout = plane.endpoint("credit")["rollout"]["id"]
    answer = plane.call("POST", f"/endpoints/credit/rollouts/{rollout}/approvals", person, json={})
    assert answer.status_code == 403
    assert plane.audit(action="rollout.approve", outcome="refused")[-1].actor == person
