"""The forwarding handler: `/themisto/api/<path>` of this Jupyter server, answered by the control plane."""

from __future__ import annotations

import asyncio
import json
from http.client import responses
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.iostream import StreamClosedError
from tornado.web import authenticated

from themisto.errors import Failed, Invalid, ThemistoError, error_for
from themisto_lab.routes import QUERY, upstream_path
from themisto_lab.upstream import Upstream

if TYPE_CHECKING:
    import httpx

__all__ = ["Forward", "handlers"]

_MAX_BODY = 64 * 1024
_SENT = ("Accept", "Content-Type", "Idempotency-Key")
_RECEIVED = ("Content-Length", "Retry-After", "X-Next", "X-Request-Id")


def handlers(base_url: str) -> list[tuple[str, type[APIHandler], dict[str, Any]]]:
    """The one route of the extension, all its requests sharing one client."""
    return [(url_path_join(base_url, r"/themisto/api/(.+)"), Forward, {"upstream": Upstream()})]


class Forward(APIHandler):
    """Passes an allowed request on with the server's token, and the answer back as it comes.

    The person must be logged in to this Jupyter server and, for writes, carry its XSRF token.
    """

    auth_resource = "themisto"
    _track_activity = False  # a panel left open is no reason to keep a server running

    def initialize(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._task: asyncio.Task[None] | None = None

    @authenticated
    @authorized
    async def get(self, path: str) -> None:
        await self._forward(path)

    @authenticated
    @authorized
    async def post(self, path: str) -> None:
        await self._forward(path)

    async def _forward(self, path: str) -> None:
        self._task = asyncio.ensure_future(self._pass_on(path))
        try:
            await self._task
        except ThemistoError as error:
            self._problem(error)
        except (asyncio.CancelledError, StreamClosedError):
            return  # the browser has gone; nobody is left to be told

    async def _pass_on(self, path: str) -> None:
        method = self.request.method or ""
        upstream_at, stream = upstream_path(method, path)
        if len(self.request.body) > _MAX_BODY:
            raise Invalid("The request is over 64 KiB.", "Use the themisto client in a notebook.")
        params = {name: self.get_query_argument(name) for name in QUERY if self.get_query_argument(name, None)}
        headers = {name: self.request.headers[name] for name in _SENT if name in self.request.headers}
        if not all(value.isascii() for value in headers.values()):
            raise Invalid("A header of the request is not ASCII.", "Send a key of letters, digits and '-'.")
        async with self._upstream.open(
            method, upstream_at, params=params, headers=headers, content=self.request.body, stream=stream
        ) as response:
            self._start(response)
            async for chunk in response.aiter_raw():
                self.write(chunk)
                await self.flush()
        await self.finish(set_content_type=response.headers["Content-Type"])

    def _start(self, response: httpx.Response) -> None:
        self.set_status(response.status_code)
        self.set_header("Content-Type", response.headers["Content-Type"])
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")
        for name in _RECEIVED:
            if name in response.headers:
                self.set_header(name, response.headers[name])

    def on_connection_close(self) -> None:
        """The browser hung up: stop listening upstream too."""
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()

    def _problem(self, error: ThemistoError) -> None:
        if self._headers_written:
            # Half an answer is out: cut the line, so that the browser sees that it is half.
            self.log.warning("themisto: an answer was cut short: %s", error.detail)
            self.request.connection.close()  # type: ignore[union-attr]
            return
        self.clear()
        self.set_status(error.status)
        body = {"type": f"urn:themisto:{error.slug}", "title": error.slug.replace("-", " "), "status": error.status}
        body |= {"detail": error.detail, "remedy": error.remedy}
        self.finish(json.dumps(body), set_content_type="application/problem+json")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What Jupyter itself refuses (no login, no XSRF token) or what broke here, as a problem too."""
        reason = responses.get(status_code, "error")
        if status_code >= 500:
            self._problem(Failed("The Jupyter server met an error of its own.", "Its log says more; try again."))
            return
        detail = f"The Jupyter server refused this request: {reason}."
        self._problem(error_for(status_code, {"detail": detail, "remedy": "Reload the page, or log in again."}))
