"""The hub's REST API, as the control plane uses it: who a token belongs to, and servers to start and stop."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from themisto.errors import Conflict, Failed, NotFound, Refused, Unauthenticated, Unavailable

__all__ = ["HubClient"]

_CACHE_S = 10.0
_CACHE_SIZE = 4096


class HubClient:
    """Calls the hub with the control plane's own token, or asks it about a caller's."""

    def __init__(self, api_url: str, token: str, *, timeout_s: float = 10.0) -> None:
        self._http = httpx.Client(base_url=api_url, timeout=timeout_s)
        self._token = token
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def identify(self, token: str) -> dict[str, Any]:
        """The hub's model of the token's owner: `name`, `kind`, `groups`, `scopes`.

        Kept for ten seconds, by the token's hash. Raises Unauthenticated for a token the hub does
        not know, Unavailable when the hub does not answer.
        """
        if not token.isascii():  # no token of the hub's, and no header either
            raise _unknown()
        digest = hashlib.sha256(token.encode()).hexdigest()
        with self._lock:
            known = self._known.get(digest)
        if known and known[0] > time.monotonic():
            return known[1]
        with _hub_errors():
            response = self._http.get("/user", headers={"Authorization": f"token {token}"})
        if response.status_code in (401, 403):
            raise _unknown()
        _raise_for(response)
        model: dict[str, Any] = response.json()
        with self._lock:
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[digest] = (time.monotonic() + _CACHE_S, model)
        return model

    def forget(self) -> None:
        """Drop all that is remembered about tokens (groups changed)."""
        with self._lock:
            self._known.clear()

    def user(self, name: str) -> dict[str, Any]:
        """The hub's model of a person. Raises NotFound."""
        model: dict[str, Any] = self._call("GET", f"/users/{quote(name, safe='')}").json()
        return model

    def users(self) -> list[dict[str, Any]]:
        """Everybody with a running server, with those servers."""
        found: list[dict[str, Any]] = self._call("GET", "/users", params={"state": "active", "limit": 1000}).json()
        return found

    def start_server(self, user: str, name: str, options: Mapping[str, Any]) -> None:
        """Ask for a named server. Raises Refused with the hub's reason, Unavailable to be tried again."""
        self._call("POST", self._server(user, name), json=dict(options), timeout_s=60.0)

    def stop_server(self, user: str, name: str) -> None:
        """Stop a named server and forget it; one that is gone already is fine."""
        try:
            self._call("DELETE", self._server(user, name), json={"remove": True}, timeout_s=30.0)
        except NotFound:
            return

    def server_status(self, user: str, name: str) -> str:
        """`running`, `starting`, `stopping` or `absent`."""
        try:
            server = self.user(user).get("servers", {}).get(name)
        except NotFound:
            return "absent"
        if not server:
            return "absent"
        if server.get("pending") == "stop":
            return "stopping"
        if server.get("ready"):
            return "running"
        return "starting" if server.get("pending") else "absent"

    @staticmethod
    def _server(user: str, name: str) -> str:
        return f"/users/{quote(user, safe='')}/servers/{quote(name, safe='')}"

    def _call(self, method: str, path: str, *, timeout_s: float | None = None, **kwargs: Any) -> httpx.Response:
        with _hub_errors():
            response = self._http.request(
                method,
                path,
                headers={"Authorization": f"token {self._token}"},
                timeout=timeout_s or self._http.timeout,
                **kwargs,
            )
        _raise_for(response)
        return response

    def close(self) -> None:
        self._http.close()


@contextmanager
def _hub_errors() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise Unavailable("The hub does not answer.", "Try again in a moment.") from error


def _unknown() -> Unauthenticated:
    return Unauthenticated("The hub does not know this token.", "Start the server again, or log in anew.")


def _raise_for(response: httpx.Response) -> None:
    if response.status_code < 400:
        return
    try:
        reason = str(response.json().get("message") or response.reason_phrase)
    except ValueError:
        reason = response.reason_phrase
    kinds = {
        401: Unavailable,  # our own token: the platform's fault, not the person's
        403: Refused,
        404: NotFound,
        400: Conflict,
        409: Conflict,
        503: Unavailable,
        429: Unavailable,
    }
    raise kinds.get(response.status_code, Failed)(f"The hub says: {reason}", "Tell the platform team if it stays so.")
