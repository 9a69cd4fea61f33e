"""Who a token belongs to: the hub's answer, kept for half a minute, and for a while longer when the hub is away."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextvars import ContextVar

import httpx

from themisto.errors import Refused, Unauthenticated, Unavailable
from themisto.types import Model

__all__ = ["Identities", "Person", "current_person"]

_FRESH_S = 30.0
_UNKNOWN_S = 5.0
_GRACE_S = 300.0
_SIZE = 4096


class Person(Model):
    """A person at the hub, and the groups that the hub says she is in."""

    name: str
    groups: tuple[str, ...]


current_person: ContextVar[Person | None] = ContextVar("current_person", default=None)
"""Whom the door let in with this request; MLflow's authorization reads it. No header can set it."""


class _Known(Model):
    person: Person | None  # None: the hub does not know the token
    asked_at: float


class Identities:
    """Asks the hub about tokens; answers are kept by the token's SHA-256, never by the token.

    fresh_s: how long an answer stands. grace_s: how long a person known before goes on while the hub
        does not answer.
    """

    def __init__(
        self,
        hub_api: str,
        *,
        fresh_s: float = _FRESH_S,
        grace_s: float = _GRACE_S,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{hub_api}/user"
        self._fresh_s = fresh_s
        self._grace_s = grace_s
        self._clock = clock
        self._http = httpx.AsyncClient(timeout=timeout_s)
        self._known: dict[str, _Known] = {}

    async def identify(self, token: str) -> Person:
        """The token's person.

        Raises Unauthenticated for a token the hub does not know, Refused for one that is not a
        person's, Unavailable when the hub is away and the token was not known before.
        """
        digest = hashlib.sha256(token.encode()).hexdigest()
        known = self._known.get(digest)
        age = self._clock() - known.asked_at if known else 0.0
        if known and age < (self._fresh_s if known.person else _UNKNOWN_S):
            return _vouched(known.person)
        try:
            person = await self._ask(token)
        except Unavailable:
            if known and known.person and age < self._fresh_s + self._grace_s:
                return known.person
            raise
        self._remember(digest, person)
        return _vouched(person)

    def _remember(self, digest: str, person: Person | None) -> None:
        self._known.pop(digest, None)
        while len(self._known) >= _SIZE:
            self._known.pop(next(iter(self._known)))  # the one asked about longest ago
        self._known[digest] = _Known(person=person, asked_at=self._clock())

    async def _ask(self, token: str) -> Person | None:
        try:
            response = await self._http.get(self._url, headers={"Authorization": f"token {token}"})
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unavailable("The hub does not answer.", "Try again in a moment.") from error
        if response.status_code in (401, 403):
            return None
        if response.status_code != 200:
            raise Unavailable(f"The hub answered HTTP {response.status_code}.", "Try again in a moment.")
        model = response.json()
        if model.get("kind") != "user":
            raise Refused("Only people's tokens are let in here.", "Use the token of your own server.")
        return Person(name=model["name"], groups=tuple(sorted(model.get("groups") or ())))

    async def close(self) -> None:
        await self._http.aclose()


def _vouched(person: Person | None) -> Person:
    if person is None:
        raise Unauthenticated("The hub does not know this token.", "Start the server again, or log in anew.")
    return person
