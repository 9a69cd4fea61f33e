"""The Tritons behind the transformer: HTTP over TCP, or over the socket of a group's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import aiohttp
from pydantic import SecretStr

from themisto import spans
from themisto.errors import Unavailable
from themisto_hub.model_server.infer_key import INFER_HEADER

__all__ = ["Answer", "Tritons"]

_CONNECTIONS = 256
_TIMEOUT_S = 30.0


class Answer:
    """What a Triton said."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Tritons:
    """One pool of connections for all addresses of TCP, one a socket."""

    def __init__(self, keys: Mapping[str, SecretStr]) -> None:
        self.keys = keys
        """What the server at an address asks for: `infer_keys`."""
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def get(self, address: str, path: str, *, timeout_s: float = _TIMEOUT_S) -> Answer:
        """Raises Unavailable where nobody answers."""
        return await self._send("GET", address, path, None, {}, timeout_s=timeout_s)

    async def post(
        self, address: str, path: str, body: bytes, headers: dict[str, str], *, timeout_s: float = _TIMEOUT_S
    ) -> Answer:
        """Raises Unavailable where nobody answers."""
        return await self._send("POST", address, path, body, headers, timeout_s=timeout_s)

    async def _send(
        self,
        method: str,
        address: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> Answer:
        session, base = self._session(address)
        key = self.keys.get(address)
        if key is not None:
            headers = headers | {INFER_HEADER: key.get_secret_value()}
        headers = headers | spans.headers(recorded=True)
        timeout = aiohttp.ClientTimeout(timeout_s)
        try:
            async with session.request(method, f"{base}{path}", data=body, headers=headers, timeout=timeout) as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The model server does not answer.", "Try again in a moment.") from error

    def _session(self, address: str) -> tuple[aiohttp.ClientSession, str]:
        unix = address.startswith("unix:")
        place = address if unix else ""
        if place not in self._sessions:
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(address.removeprefix("unix:"), limit=_CONNECTIONS)
                if unix
                else aiohttp.TCPConnector(limit=_CONNECTIONS)
            )
            self._sessions[place] = aiohttp.ClientSession(connector=connector, headers={"accept-encoding": "identity"})
        return self._sessions[place], "http://triton" if unix else f"http://{address}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()
