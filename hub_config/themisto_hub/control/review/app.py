"""The review page's application.

    GET  /                    what waits, after a login (an earlier one will do: looking grants nothing)
    GET  /approve/{rollout}   to the identity provider: prompt=login, max_age=0, PKCE, state, nonce
    GET  /callback            the id token is checked, the difference shown, a one-use ticket in its form
    POST /decide              the ticket alone decides

No cookie carries the right to approve: cookies ignore ports, so another process on the machine can
receive them. The session cookie holds a login's state and nonce and nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from themisto.errors import Invalid, NotFound, Refused, ThemistoError
from themisto.types import Ulid
from themisto_hub.control.context import Control
from themisto_hub.control.review import pages
from themisto_hub.control.review.login import LoginFlow
from themisto_hub.control.serving.approvals import Approvals, Decision
from themisto_hub.control.serving.diff import difference

__all__ = ["create_review_app"]

_MAX_FORM = 64 * 1024
_ROLLOUT: TypeAdapter[str] = TypeAdapter(Ulid)
_DECISION: TypeAdapter[Decision] = TypeAdapter(Decision)
Handler = Callable[[Request], Awaitable[Response]]


def create_review_app(control: Control) -> Starlette:
    """The ASGI application; it must be served at the origin `settings.review_url`."""
    review = _Review(control)
    origin = urlsplit(control.settings.review_url)
    secure = origin.scheme == "https"
    key = control.keys.session.get_secret_value() if control.keys.session else secrets.token_hex(32)
    return Starlette(
        routes=[
            Route("/", _shown(review.waiting)),
            Route("/approve/{rollout}", _shown(review.approve)),
            Route("/callback", _shown(review.callback)),
            Route("/decide", _shown(review.decide), methods=["POST"]),
            Route("/healthz", _healthz),
            Route("/static/review.css", pages.stylesheet),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[origin.hostname or "localhost"]),
            Middleware(
                SessionMiddleware,
                secret_key=key,
                max_age=600,
                session_cookie="__Host-themisto-review" if secure else "themisto-review",
                same_site="lax",
                https_only=secure,
            ),
        ],
        exception_handlers={404: _no_such_page},
    )


class _Review:
    """The four requests of the page; each calls one method of Approvals."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._login = LoginFlow(control.settings, control.keys, control.clock)

    @property
    def _approvals(self) -> Approvals:
        return self._control.serving.approvals

    async def waiting(self, request: Request) -> Response:
        self._require_navigation(request)
        return await self._login.begin(request, rollout=None)

    async def approve(self, request: Request) -> Response:
        self._require_navigation(request)
        try:
            rollout = _ROLLOUT.validate_python(request.path_params["rollout"])
        except ValidationError:
            raise NotFound("There is no such rollout.", "Open the address that %deploy status shows.") from None
        return await self._login.begin(request, rollout=rollout)

    async def callback(self, request: Request) -> Response:
        try:
            login, rollout = await self._login.finish(request)
        except Refused as error:
            await asyncio.to_thread(self._approvals.refuse, "unknown", "rollout/unknown", error.detail)
            raise
        if rollout is None:
            return pages.waiting(login, await asyncio.to_thread(self._approvals.waiting, login))
        review, ticket = await asyncio.to_thread(self._approvals.open, login, rollout)
        return pages.review(login, review, difference(review.release, review.stable, review.gates), ticket)

    async def decide(self, request: Request) -> Response:
        await self._require_own_form(request)
        form = await request.form(max_files=0, max_fields=8)
        try:
            decision = _DECISION.validate_python(form.get("decision"))
        except ValidationError:
            raise Invalid("The decision is neither approve nor refuse.", "Open the review page again.") from None
        ticket, reason = str(form.get("ticket", "")), str(form.get("reason", ""))[:2000]
        rollout = await asyncio.to_thread(self._approvals.decide, ticket, decision, reason)
        return pages.decided(rollout)

    @staticmethod
    def _require_navigation(request: Request) -> None:
        """A login starts only where a person opened the page: not in a frame, not by a script."""
        if request.headers.get("sec-fetch-dest", "document") != "document":
            raise Refused("This page opens only in a tab of its own.", "Open it yourself.")

    async def _require_own_form(self, request: Request) -> None:
        """The form of this very origin, and of no other, may decide; another is recorded."""
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        if origin != self._control.settings.review_url or site != "same-origin":
            why = f"A decision was sent from another origin: {(origin or 'none')[:200]}."
            await asyncio.to_thread(self._approvals.refuse, "unknown", "rollout/unknown", why)
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _MAX_FORM:
            raise Invalid("The form is too large.", "Write a shorter reason.")


def _shown(handler: Callable[[Request], Awaitable[Response]]) -> Handler:
    """Ours become pages with their status, a sentence on what is wrong and one on what to do."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ThemistoError as error:
            return pages.problem(error)

    return answer


async def _healthz(_: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


async def _no_such_page(_: Request, __: Any) -> Response:
    return pages.problem(NotFound("There is no such page.", "What waits for a decision is on the first page."))
