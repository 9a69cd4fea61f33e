"""The only way in: prefix, identity, workspace, open routes and owner, before MLflow sees a request."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from themisto.errors import Invalid, Refused, ThemistoError, Unauthenticated
from themisto_hub.tracking_server import stamp
from themisto_hub.tracking_server.identity import Identities, Person, current_person
from themisto_hub.tracking_server.members import Members
from themisto_hub.tracking_server.routes import HEALTH, is_open

if TYPE_CHECKING:
    from themisto_hub.tracking_server.browser import BrowserLogin

__all__ = ["PREFIX", "Door"]

PREFIX = "/services/tracking"
_WORKSPACE_HEADER = "x-mlflow-workspace"
_BODY_LIMIT_BYTES = 32 * 1024 * 1024
_DROPPED = (b"authorization", b"cookie", b"token", b"forwarded", b"x-mlflow-authorization")
_PAGE_HEADERS = {
    "Content-Security-Policy": "connect-src 'self'; form-action 'self'; frame-ancestors 'self'; object-src 'none'",
    "Referrer-Policy": "same-origin",
}
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    422: "INVALID_PARAMETER_VALUE",
    503: "TEMPORARILY_UNAVAILABLE",
}
_log = logging.getLogger(__name__)


class Door:
    """ASGI application in front of MLflow. What it does not let in explicitly stays out.

    One request: the prefix is taken off; only `/health` is open to all; a token (or the browser's
    session) is a person at the hub; the route must be on the list; the workspace must be one of her
    groups; bodies that name an owner name her. MLflow then applies its own permissions as well.
    """

    def __init__(self, mlflow: ASGIApp, identities: Identities, members: Members, browser: BrowserLogin) -> None:
        self._mlflow = mlflow
        self._identities = identities
        self._members = members
        self._browser = browser

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            send = _at_home(send)
            try:
                await self._answer(scope, receive, send)
            except ThemistoError as error:
                await _problem(error)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = _below_prefix(scope["path"])
        if path == "":
            await RedirectResponse(f"{PREFIX}/")(scope, receive, send)
        elif path == HEALTH and request.method in ("GET", "HEAD"):
            await self._mlflow(_inner(scope, path, scope["headers"]), receive, send)
        elif (page := await self._browser.answer(request, path)) is not None:
            await page(scope, receive, send)
        else:
            try:
                person = await self._admitted(request, path)
            except Unauthenticated:
                if (page := self._browser.again(request, path)) is None:
                    raise
                await page(scope, receive, send)
            else:
                await self._pass(person, path, request, send)

    async def _admitted(self, request: Request, path: str) -> Person:
        token = _token(request.headers) or self._browser.token(request)
        if not token:
            raise Unauthenticated("This needs the hub's token.", "Send 'Authorization: Bearer …'.")
        person = await self._identities.identify(token)
        if not self._members.knows(person):
            await anyio.to_thread.run_sync(self._members.admit, person)
        if not is_open(request.method, path):
            raise Refused(f"{request.method} {path} is not open here.")
        return person

    async def _pass(self, person: Person, path: str, request: Request, send: Send) -> None:
        workspace = self._workspace(person, request)
        receive: Receive = request.receive
        headers = [(k, v) for k, v in request.scope["headers"] if k not in _DROPPED and b"_" not in k]
        headers = _replaced(headers, _WORKSPACE_HEADER, workspace)
        if stamp.carries_claims(request.method, path):
            body = stamp.stamped(path, request.url.query, await _body(request), person.name)
            headers = _replaced(headers, "content-length", str(len(body)))
            headers = [(k, v) for k, v in headers if k not in (b"transfer-encoding", b"content-encoding")]
            if body:
                headers = _replaced(headers, "content-type", "application/json")
            receive = _once(body, request.receive)
        admitted = current_person.set(person)
        try:
            await self._mlflow(_inner(request.scope, path, headers), receive, send)
        finally:
            current_person.reset(admitted)

    def _workspace(self, person: Person, request: Request) -> str:
        """The workspace asked for (header, else `?workspace=`), else the person's first group."""
        asked = request.headers.get(_WORKSPACE_HEADER) or request.query_params.get("workspace")
        workspace = (asked or "").strip() or next(iter(person.groups), "")
        if not workspace or not self._members.may_enter(person, workspace):
            raise Refused(f"{person.name} is not in the group '{workspace}'.", "Use a workspace of your groups.")
        return workspace

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._identities.close()
                await self._browser.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def _at_home(send: Send) -> Send:
    """MLflow's pages speak to this server and to nobody else, and show in no other site's frame."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_PAGE_HEADERS)
        await send(message)

    return sending


def _below_prefix(path: str) -> str:
    """The path below the prefix; a path outside it is nobody's."""
    if path == PREFIX:
        return ""
    if not path.startswith(f"{PREFIX}/"):
        raise Unauthenticated(f"MLflow is served below {PREFIX}/.")
    return path.removeprefix(PREFIX)


def _token(headers: Headers) -> str:
    """From `Authorization: Bearer …` or `token …`, as MLflow's client and the hub's send it."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() in ("bearer", "token") else ""


def _inner(scope: Scope, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Scope:
    return {**scope, "path": path, "raw_path": path.encode(), "root_path": "", "headers": list(headers)}


def _replaced(headers: Iterable[tuple[bytes, bytes]], name: str, value: str) -> list[tuple[bytes, bytes]]:
    key = name.encode()
    return [*((k, v) for k, v in headers if k != key), (key, value.encode())]


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _BODY_LIMIT_BYTES:
            raise Invalid("The request's body is too large.", "Log large things as artifacts.")
        parts.append(part)
    return b"".join(parts)


def _once(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, then whatever the client still says (it may hang up)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _problem(error: ThemistoError) -> Response:
    """MLflow's own shape of an error, so that its client shows the sentence."""
    status = error.status if error.status in _CODES else 500
    code = _CODES.get(status, "INTERNAL_ERROR")
    if status >= 500:
        _log.warning("%s: %s", HTTPStatus(status).phrase, error)
    status = 400 if status == 422 else status
    return JSONResponse({"error_code": code, "message": str(error)}, status)
