"""A browser without a screen: logs in, starts and stops servers as a person does, through the public address alone.

What the tour and the tests use. Cookies, redirects, forms and XSRF tokens are handled as a browser
handles them; nothing here knows a secret but the person's password.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urljoin, urlsplit

import httpx

from themisto.errors import Failed, NotFound, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Browser", "Form"]

_REDIRECTS = 20


class Form(HTMLParser):
    """The forms of a page: `action`, and `fields` with the values they start with.

    choices: values of the radio buttons, by name.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action = given.get("action", "")
        elif tag == "input" and given.get("name"):
            self._field(given)

    def _field(self, given: Mapping[str, str]) -> None:
        name, value = given["name"], given.get("value", "")
        if given.get("type") == "radio":
            self.choices.setdefault(name, []).append(value)
            if "checked" in given:
                self.fields[name] = value
        else:
            self.fields[name] = value


class Browser:
    """One person at one workbench.

    url: the public address of the hub, e.g. http://127.0.0.1:8000.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.user = ""
        self._http = httpx.Client(timeout=timeout_s, headers={"User-Agent": "themisto-browser"}, trust_env=False)

    def login(self, user: str, password: str) -> Self:
        """Through the hub, the provider's form and back. Raises Refused with what the page says."""
        page = self.open("/hub/oauth_login?next=%2Fhub%2Fhome")
        form = Form(page.text)
        if form.action is None or "password" not in form.fields:
            raise Failed(f"No login form at {page.url} (HTTP {page.status_code}).", "Is the identity provider up?")
        answer = self._follow(
            "POST", urljoin(str(page.url), form.action), data={**form.fields, "login": user, "password": password}
        )
        if answer.status_code >= 400 or urlsplit(str(answer.url)).netloc != urlsplit(self.url).netloc:
            raise Refused(f"{user} could not log in: {_said(answer.text)}")
        self.user = user
        return self

    def logout(self) -> None:
        """Of the hub and, with it, of the identity provider."""
        page = self.open("/hub/logout")
        form = Form(page.text)
        if form.action is not None and urlsplit(str(page.url)).netloc != urlsplit(self.url).netloc:
            self._follow("POST", urljoin(str(page.url), form.action), data={**form.fields, "logout": "yes"})
        self._http.cookies.clear()
        self.user = ""

    def open(self, path: str) -> httpx.Response:
        """GET, following redirects; path below the public address, or a whole URL."""
        return self._follow("GET", urljoin(self.url + "/", path))

    def profiles(self, name: str = "") -> list[str]:
        """Names of the profiles that the spawn page offers."""
        return Form(self.open(self._spawn_path(name)).text).choices.get("profile", [])

    def start_server(self, profile: str, name: str = "", *, group: str | None = None, wait_s: float = 120) -> str:
        """Choose a profile on the spawn page and wait until the server answers; returns its URL.

        Raises Refused or Failed with what the page says, Unavailable when it takes longer than `wait_s`.
        """
        path = self._spawn_path(name)
        self.open(path)
        form = {"profile": profile, "_xsrf": self._xsrf("/hub/")} | ({"group": group} if group else {})
        answer = self._send("POST", f"{self.url}{path}", data=form)
        if answer.status_code >= 400:
            kind = Refused if answer.status_code < 500 else Failed
            raise kind(_said(answer.text) or f"The hub answered HTTP {answer.status_code}.")
        until = time.monotonic() + wait_s
        while not (server := self.server(name)).get("ready"):
            if not server.get("pending") and time.monotonic() > until - wait_s + 2:
                raise Failed(f"The server on {profile} did not start.", "See the hub's log.")
            if time.monotonic() > until:
                raise Unavailable(f"The server on {profile} is not ready after {wait_s:.0f} s.", "See the hub's log.")
            time.sleep(0.5)
        return self.server_url(name)

    def server(self, name: str = "") -> dict[str, Any]:
        """The hub's model of one of the person's servers; empty if it does not run."""
        model = self.api("GET", f"users/{quote(self.user, safe='')}").json()
        found: dict[str, Any] = model.get("servers", {}).get(name) or {}
        return found

    def server_url(self, name: str = "") -> str:
        """With a slash at the end: `http://127.0.0.1:8000/user/scientist/`."""
        return f"{self.url}/user/{quote(self.user, safe='')}/" + (f"{quote(name, safe='')}/" if name else "")

    def server_token(self, name: str = "", *, lifetime_s: int = 3600) -> str:
        """A token that opens this one server and nothing else."""
        scope = f"access:servers!server={self.user}/{name}"
        body = {"expires_in": lifetime_s, "scopes": [scope], "note": "browser"}
        token: str = self.api("POST", f"users/{quote(self.user, safe='')}/tokens", json=body).json()["token"]
        return token

    def stop_server(self, name: str = "", *, wait_s: float = 60) -> None:
        """Stop it and wait until it is gone."""
        who = quote(self.user, safe="")
        path = f"users/{who}/servers/{quote(name, safe='')}" if name else f"users/{who}/server"
        try:
            self.api("DELETE", path)
        except NotFound:
            return
        until = time.monotonic() + wait_s
        while self.server(name):
            if time.monotonic() > until:
                raise Unavailable("The server does not stop.", "See the hub's log.")
            time.sleep(0.2)

    def api(self, method: str, path: str, *, json: Any = None) -> httpx.Response:
        """The hub's REST API with the browser's session. Raises Refused, NotFound or Failed."""
        headers = {"X-XSRFToken": self._xsrf("/hub/"), "Referer": f"{self.url}/hub/home"}
        response = self._send(method, f"{self.url}/hub/api/{path}", json=json, headers=headers)
        if response.status_code >= 400:
            kinds = {401: Refused, 403: Refused, 404: NotFound}
            raise kinds.get(response.status_code, Failed)(f"The hub says: {_message(response)}")
        return response

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Below: what a browser does by itself.

    def _spawn_path(self, name: str) -> str:
        return f"/hub/spawn/{quote(self.user, safe='')}" + (f"/{quote(name, safe='')}" if name else "")

    def _xsrf(self, path: str) -> str:
        """The token that the hub's pages carry in a cookie."""
        for cookie in self._http.cookies.jar:
            if cookie.name == "_xsrf" and cookie.path == path:
                return cookie.value or ""
        return ""

    def _follow(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        response = self._send(method, url, **kwargs)
        for _ in range(_REDIRECTS):
            if not response.is_redirect:
                return response
            response = self._send("GET", urljoin(str(response.url), response.headers["Location"]))
        raise Failed(f"More than {_REDIRECTS} redirects from {url}.", "Log out, and log in again.")

    def _send(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        with _unavailable(url):
            return self._http.request(method, url, **kwargs)


@contextmanager
def _unavailable(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        where = urlsplit(url).netloc
        raise Unavailable(f"{where} does not answer: {type(error).__name__}.", "Is the workbench up?") from error


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json().get("message") or response.reason_phrase)
    except ValueError:
        return response.reason_phrase


def _said(page: str) -> str:
    """The error that a page shows a person."""
    found = re.search(
        r'<(?:p|div)[^>]*class="[^"]*(?:error|alert-danger|text-danger)[^"]*"[^>]*>(.*?)</(?:p|div)>', page, re.S
    )
    text = re.sub(r"<[^>]+>", " ", found.group(1)) if found else ""
    return html.unescape(re.sub(r"\s+", " ", text).strip())
