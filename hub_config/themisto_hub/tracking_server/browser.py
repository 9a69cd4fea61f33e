"""People who open MLflow's pages: the hub's OAuth login, and a session that lives in this process."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from typing import TypeVar
from urllib.parse import urlencode

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from themisto.errors import Refused, Unavailable
from themisto.types import Model

__all__ = ["BrowserLogin"]

_CLIENT = "service-tracking"
_CALLBACK = "/oauth_callback"
_SESSION = "themisto-tracking"
_STATE = "themisto-tracking-state"
_SESSION_S = 8 * 3600.0
_STATE_S = 600
_SIZE = 4096
_T = TypeVar("_T")
_OWN_PAGES = ("same-origin", "none")


class _Session(Model):
    token: str
    until: float


class BrowserLogin:
    """Sends a browser to the hub and back; its cookie is a random key to the hub's token kept here.

    After a restart the cookie means nothing, and the hub, where the person is still logged in, makes
    a new one without a word. client_secret: the hub API token of the service; without it pages
    stay closed and only tokens are let in.
    """

    def __init__(self, *, public: str, hub_api: str, prefix: str, client_secret: str | None) -> None:
        self._authorize = f"{public}/hub/api/oauth2/authorize"
        self._exchange = f"{hub_api}/oauth2/token"
        self._callback = f"{prefix}{_CALLBACK}"  # as the hub registers services: a path, whatever the host
        self._prefix = prefix
        self._secure = public.startswith("https:")
        self._secret = client_secret
        self._http = httpx.AsyncClient(timeout=10.0)
        self._sessions: dict[str, _Session] = {}
        self._verifiers: dict[str, str] = {}

    def token(self, request: Request) -> str | None:
        """The hub's token of the browser's session, for requests that this server's own pages make.

        Raises Refused for a write that another site, or another page without a word, sends along.
        """
        session = self._sessions.get(request.cookies.get(_SESSION, ""))
        if session is None or session.until < time.time():
            return None
        site = request.headers.get("sec-fetch-site", "same-origin")
        if request.method not in ("GET", "HEAD") and site not in _OWN_PAGES:
            raise Refused("Another site may not act for you here.")
        return session.token

    async def answer(self, request: Request, path: str) -> Response | None:
        """The page that the hub sends a person back to; None for all others."""
        if self._secret is None or request.method != "GET" or path != _CALLBACK:
            return None
        return await self._finish(request)

    def again(self, request: Request, path: str) -> Response | None:
        """The way to the hub, for who opens the page without a session or after logging out; else None."""
        self._sessions.pop(request.cookies.get(_SESSION, ""), None)
        if self._secret is None or request.method != "GET" or path != "/" or "authorization" in request.headers:
            return None
        return self._start()

    def _start(self) -> Response:
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        _put(self._verifiers, state, verifier)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": _CLIENT,
            "redirect_uri": self._callback,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        page = RedirectResponse(f"{self._authorize}?{urlencode(asked)}", 302)
        self._set_cookie(page, _STATE, state, _STATE_S)
        return page

    async def _finish(self, request: Request) -> Response:
        state = request.query_params.get("state", "")
        if not state or not secrets.compare_digest(state, request.cookies.get(_STATE, "")):
            raise Refused("This login was not started here.", f"Open {self._prefix}/ again.")
        code = request.query_params.get("code")
        if not code:
            raise Refused("The hub refused the login.", "Ask for access to MLflow's pages.")
        token = await self._token_for(code, self._verifiers.pop(state, ""))
        key = secrets.token_urlsafe(32)
        _put(self._sessions, key, _Session(token=token, until=time.time() + _SESSION_S))
        page = RedirectResponse(f"{self._prefix}/", 302)
        self._set_cookie(page, _SESSION, key, int(_SESSION_S))
        page.delete_cookie(_STATE, path=f"{self._prefix}/")
        return page

    async def _token_for(self, code: str, verifier: str) -> str:
        form = {
            "client_id": _CLIENT,
            "client_secret": self._secret,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "code_verifier": verifier,
        }
        try:
            response = await self._http.post(self._exchange, data=form)
        except httpx.TransportError as error:
            raise Unavailable("The hub does not answer.", "Try again in a moment.") from error
        if response.status_code != 200:
            raise Refused("The hub did not accept the login.", f"Open {self._prefix}/ again.")
        token: str = response.json()["access_token"]
        return token

    def _set_cookie(self, page: Response, name: str, value: str, seconds: int) -> None:
        page.set_cookie(
            name,
            value,
            max_age=seconds,
            path=f"{self._prefix}/",
            httponly=True,
            secure=self._secure,
            samesite="lax",
        )

    async def close(self) -> None:
        await self._http.aclose()


def _put(kept: dict[str, _T], key: str, value: _T) -> None:
    """Keep `value`; the oldest goes where there are too many."""
    while len(kept) >= _SIZE:
        kept.pop(next(iter(kept)))
    kept[key] = value
