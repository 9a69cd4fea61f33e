"""The embedded identity provider as a client meets it (OpenID Connect Core 1.0, RFC 7636)."""

import base64
import hashlib
import json
import secrets
import time
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import pytest

from themisto_hub.browser import Form


class Client:
    """One of the provider's two clients, with a browser of its own."""

    def __init__(self, house, name: str) -> None:
        self.house = house
        self.id = f"themisto-{name}"
        self.secret = house.keys[f"oidc_{name}"]
        self.redirect = f"{house.url}/hub/oauth_callback" if name == "hub" else f"{house.settings.review_url}/callback"
        self.verifier = secrets.token_urlsafe(48)
        self.http = httpx.Client(timeout=10)

    def authorize(self, **more: str) -> httpx.Response:
        """Follows redirects until a page, or until it would leave for the client."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": self.redirect,
            "scope": "openid profile email groups offline_access",
            "state": "s",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        } | more
        return self.follow(self.http.get(f"{self.house.settings.issuer}/auth?{urlencode(query)}"))

    def follow(self, response: httpx.Response) -> httpx.Response:
        while response.is_redirect:
            where = urljoin(str(response.url), response.headers["location"])
            if where.startswith(self.redirect):
                return response
            response = self.http.get(where)
        return response

    def login(self, page: httpx.Response, user: str, password: str | None = None) -> httpx.Response:
        form = {"login": user, "password": password or self.house.passwords[user]}
        answer = self.follow(self.http.post(urljoin(str(page.url), Form(page.text).action), data=form))
        if "/session/end/confirm" in answer.text:  # somebody else was logged in: the provider ends that session first
            form = Form(answer.text)
            answer = self.follow(self.http.post(form.action, data=form.fields))
        return answer

    def tokens(self, answer: httpx.Response, **more: str) -> httpx.Response:
        code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
        return self.token(grant_type="authorization_code", code=code, redirect_uri=self.redirect, **more)

    def token(self, **form: str) -> httpx.Response:
        return self.http.post(f"{self.house.settings.issuer}/token", data=form, auth=(self.id, self.secret))


def claims(token: str) -> dict:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def error_in(response: httpx.Response) -> str:
    return parse_qs(urlsplit(response.headers["location"]).query)["error"][0]


def test_groups_are_in_the_id_token_and_at_userinfo(hub):
    client = Client(hub, "hub")
    answer = client.tokens(client.login(client.authorize(), "scientist"), code_verifier=client.verifier).json()
    assert claims(answer["id_token"])["groups"] == ["data-science"]
    user = client.http.get(
        f"{hub.settings.issuer}/me", headers={"Authorization": f"Bearer {answer['access_token']}"}
    ).json()
    assert user["groups"] == ["data-science"]
    assert user["preferred_username"] == "scientist"


def test_without_pkce_nobody_gets_in(hub):
    client = Client(hub, "hub")
    assert error_in(client.authorize(code_challenge="", code_challenge_method="")) == "invalid_request"
    answer = client.login(client.authorize(), "scientist")
    assert client.tokens(answer, code_verifier="wrong" * 10).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("redirect", ["http://evil.example.com/", "http://127.0.0.1:1/hub/oauth_callback"])
def test_another_redirect_is_refused_on_the_providers_own_page(hub, redirect):
    page = Client(hub, "hub").authorize(redirect_uri=redirect)
    assert page.status_code == 400
    assert "redirect_uri" in page.text


def test_the_review_page_gets_no_refresh_token_and_knows_when_the_login_was(hub):
    client = Client(hub, "review")
    answer = client.tokens(client.login(client.authorize(), "reviewer"), code_verifier=client.verifier).json()
    assert "refresh_token" not in answer
    assert abs(claims(answer["id_token"])["auth_time"] - time.time()) < 30


def test_prompt_login_asks_for_the_password_in_spite_of_a_session(hub):
    client = Client(hub, "review")
    client.login(client.authorize(), "reviewer")
    assert client.authorize().is_redirect
    page = client.authorize(prompt="login", max_age="0")
    assert 'name="password"' in page.text
    answer = client.tokens(client.login(page, "reviewer"), code_verifier=client.verifier).json()
    assert time.time() - claims(answer["id_token"])["auth_time"] < 10


def test_somebody_else_may_log_in_at_the_same_browser(hub):
    client = Client(hub, "review")
    client.login(client.authorize(), "scientist")
    page = client.authorize(prompt="login", max_age="0")
    answer = client.tokens(client.login(page, "reviewer"), code_verifier=client.verifier).json()
    assert claims(answer["id_token"])["sub"] == "reviewer"


def test_a_refresh_ends_with_the_persons_account(hub):
    client = Client(hub, "hub")
    answer = client.tokens(client.login(client.authorize(), "colleague"), code_verifier=client.verifier).json()
    renewed = client.token(grant_type="refresh_token", refresh_token=answer["refresh_token"])
    assert renewed.status_code == 200
    token = renewed.json().get("refresh_token", answer["refresh_token"])
    hub.edit_user("colleague", disabled=True)
    try:
        assert client.token(grant_type="refresh_token", refresh_token=token).json()["error"] == "invalid_grant"
    finally:
        hub.edit_user("colleague", disabled=False)


def test_a_file_that_is_being_edited_locks_nobody_out(hub):
    text = hub.users.read_text()
    hub.users.write_text(text + "\n  broken: [")
    try:
        client = Client(hub, "hub")
        assert client.login(client.authorize(), "scientist").is_redirect
    finally:
        hub.users.write_text(text)


def test_guessing_passwords_is_slowed_down(hub):
    client = Client(hub, "review")
    page = client.authorize()
    said = [client.login(page, "nobody-here", "guess").text for _ in range(6)]
    assert "Name or password is wrong." in said[0]
    assert "Too many wrong passwords." in said[5]


def test_a_login_form_is_not_framed_and_not_sent_from_elsewhere(hub):
    client = Client(hub, "review")
    page = client.authorize()
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    form = {"login": "scientist", "password": hub.passwords["scientist"]}
    where = urljoin(str(page.url), Form(page.text).action)
    assert client.http.post(where, data=form, headers={"Origin": "http://127.0.0.1:1"}).status_code == 403


def test_a_name_with_markup_stays_text(hub):
    client = Client(hub, "review")
    page = client.login(client.authorize(), '"><script>alert(1)</script>', "x")
    assert "<script>alert" not in page.text


def test_the_login_page_and_the_log_say_that_it_is_for_one_machine(hub):
    assert "for a workbench on one machine only" in Client(hub, "hub").authorize().text
    assert "for one machine only" in hub.log("idp")


def test_it_listens_on_loopback_alone(hub):
    import psutil

    process = psutil.Process(hub.processes["idp"].pid)
    assert {c.laddr.ip for c in process.net_connections("tcp") if c.status == "LISTEN"} <= {"127.0.0.1", "::1"}


def test_sessions_and_grants_survive_a_restart_of_the_provider(hub):
    client = Client(hub, "hub")
    answer = client.tokens(client.login(client.authorize(), "scientist"), code_verifier=client.verifier).json()
    hub.stop("idp")
    hub.start("idp")
    assert client.token(grant_type="refresh_token", refresh_token=answer["refresh_token"]).status_code == 200
    assert client.authorize().is_redirect
