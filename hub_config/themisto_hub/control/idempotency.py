"""Writes that may be sent twice: the same Idempotency-Key gets the same answer, done once.

ASGI middleware after the IETF draft "The Idempotency-Key HTTP Header Field". The key counts for one
caller, method and path; the same key with another body or query is refused (422).
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, LargeBinary, String, delete
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from themisto_hub.control.context import Control
from themisto_hub.control.db import Base, UtcDateTime
from themisto_hub.control.problems import problem

__all__ = ["Idempotency", "forget_old"]

_KEPT = timedelta(days=1)
_MAX_BODY = 16 * 2**20


class IdempotencyRow(Base):
    """An answer that was given, by the digest of caller, method, path and key."""

    __tablename__ = "idempotency"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    content_type: Mapped[str] = mapped_column(String(100))
    at: Mapped[datetime] = mapped_column(UtcDateTime)


def forget_old(control: Control) -> None:
    """Drop answers older than a day."""
    with control.db.write() as session:
        session.execute(delete(IdempotencyRow).where(IdempotencyRow.at < control.clock() - _KEPT))


class Idempotency:
    """Replays the stored answer of a POST that carries a known key."""

    def __init__(self, app: ASGIApp, control: Control) -> None:
        self._app = app
        self._control = control
        self._running: dict[str, asyncio.Lock] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers") or [])
        given = headers.get(b"idempotency-key")
        if scope["type"] != "http" or scope["method"] != "POST" or not given:
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive)
        except ClientDisconnect:
            return  # half a body is no request
        if body is None:
            answer = problem(413, "invalid", "The request body is over 16 MiB.", "Send less, or without a key.")
            await answer(scope, receive, send)
            return
        caller = headers.get(b"authorization", b"")
        key = hashlib.sha256(b"\0".join([caller, scope["path"].encode(), given])).hexdigest()
        lock = self._running.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                await self._once(key, body, scope, receive, send)
        finally:
            if not lock.locked():
                self._running.pop(key, None)

    async def _once(self, key: str, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        digest = hashlib.sha256(scope["query_string"] + b"\0" + body).hexdigest()
        known = await asyncio.to_thread(self._find, key)
        if known is not None and known.request_sha256 != digest:
            answer = problem(422, "invalid", "This Idempotency-Key was used for another request.", "Use a new key.")
            await answer(scope, receive, send)
            return
        if known is not None:
            headers = [(b"content-type", known.content_type.encode()), (b"idempotency-replayed", b"true")]
            await send({"type": "http.response.start", "status": known.status, "headers": headers})
            await send({"type": "http.response.body", "body": known.body})
            return
        kept = _Kept(send)
        await self._app(scope, _given(body), kept.send)
        if 200 <= kept.status < 300:
            await asyncio.to_thread(self._store, key, digest, kept)

    def _find(self, key: str) -> IdempotencyRow | None:
        with self._control.db.read() as session:
            row = session.get(IdempotencyRow, key)
            session.expunge_all()  # it is read after the session
            return row

    def _store(self, key: str, digest: str, kept: _Kept) -> None:
        row = IdempotencyRow(
            key=key,
            request_sha256=digest,
            status=kept.status,
            body=bytes(kept.body),
            content_type=kept.content_type,
            at=self._control.clock(),
        )
        with self._control.db.write() as session:
            session.merge(row)


class _Kept:
    """Passes an answer on and keeps it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.body = bytearray()
        self.content_type = "application/json"

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.content_type = dict(message.get("headers") or []).get(b"content-type", b"application/json").decode()
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
        await self._send(message)


async def _read(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > _MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _given(body: bytes) -> Receive:
    left: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return left.pop() if left else {"type": "http.disconnect"}

    return receive
