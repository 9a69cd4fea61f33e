"""Logins through the real provider, and what a refresh finds out about a person."""

import httpx
import pytest

from themisto.errors import Refused
from themisto_hub.browser import Browser


def start_job(house, user, name):
    with house.service() as hub:
        answer = hub.post(f"users/{user}/servers/{name}", json={"user_options": {"profile": "job-small"}})
        if answer.status_code < 300:
            house.until(lambda: hub.get(f"users/{user}").json()["servers"].get(name, {}).get("ready"), what="job")
            hub.request("DELETE", f"users/{user}/servers/{name}", json={"remove": True}).raise_for_status()
            house.until(lambda: name not in hub.get(f"users/{user}").json()["servers"], what="end")
        return answer


def test_a_person_comes_with_her_groups(hub):
    with hub.browser("scientist") as browser:
        model = browser.api("GET", "users/scientist").json()
    assert model["groups"] == ["data-science"]


def test_a_wrong_password_is_refused_in_words(hub):
    with Browser(hub.url) as browser, pytest.raises(Refused, match=r"Name or password is wrong\."):
        browser.login("scientist", "not this one")


def test_a_person_in_no_allowed_group_stays_outside(hub):
    hub.edit_user("colleague", groups=["guests"])
    try:
        with pytest.raises(Refused):
            hub.browser("colleague")
    finally:
        hub.edit_user("colleague", groups=["data-science"])


def test_nobody_is_a_hub_wide_admin(hub):
    with hub.browser("admin") as browser:
        model = browser.api("GET", "users/admin").json()
        with pytest.raises((Refused, Exception), match=r"403|404|not found|permission"):
            browser.api("POST", "users/scientist/tokens", json={"note": "as her"})
    assert model["admin"] is False


def test_logging_out_ends_the_session_at_the_provider_too(hub):
    with hub.browser("scientist") as browser:
        kept = browser._http.cookies
        browser.logout()
        browser._http.cookies = kept
        assert 'name="password"' in browser.open("/hub/oauth_login").text


def test_a_job_starts_for_an_owner_who_has_logged_out(hub):
    with hub.browser("scientist") as browser:
        browser.logout()
    assert start_job(hub, "scientist", "job-away").status_code in (201, 202)


def test_a_disabled_person_gets_no_job_and_the_answer_says_why(hub):
    hub.browser("colleague").close()
    hub.edit_user("colleague", disabled=True)
    try:
        answer = start_job(hub, "colleague", "job-disabled")
        assert answer.status_code == 403
        assert "no longer vouches for colleague" in answer.json()["message"]
        with pytest.raises(Refused, match="Name or password"):
            hub.browser("colleague")
    finally:
        hub.edit_user("colleague", disabled=False)


def test_a_person_who_left_her_groups_gets_no_job(hub):
    hub.browser("colleague").close()
    hub.edit_user("colleague", groups=[])
    try:
        answer = start_job(hub, "colleague", "job-left")
        assert answer.status_code == 403
        assert "in no group that may use this hub" in answer.json()["message"]
    finally:
        hub.edit_user("colleague", groups=["data-science"])


def test_a_provider_that_is_down_is_503_and_says_nothing_about_the_person(hub):
    hub.browser("scientist").close()
    hub.stop("idp")
    try:
        assert start_job(hub, "scientist", "job-idp-down").status_code == 503
    finally:
        hub.start("idp")
    assert start_job(hub, "scientist", "job-idp-up").status_code in (201, 202)


def test_tokens_of_the_provider_are_encrypted_in_the_hubs_database(hub):
    hub.browser("scientist").close()
    database = b"".join(p.read_bytes() for p in (hub.state / "hub").glob("jupyterhub.sqlite*"))
    assert b"refresh_token" not in database
    assert b"scientist@example.com" not in database


def test_the_control_plane_starts_servers_but_enters_none(hub):
    with hub.browser("scientist") as browser:
        browser.start_server("cpu-small")
        answer = httpx.get(
            f"{browser.server_url()}api/status", headers={"Authorization": f"token {hub.hub_token}"}, timeout=10
        )
        browser.stop_server()
    assert answer.status_code == 403
