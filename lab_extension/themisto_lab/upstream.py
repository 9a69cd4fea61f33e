"""The upstream: the control plane as this Jupyter server reaches it, with the server's own token."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from themisto.errors import MissingSetting, Unavailable, error_for

if TYPE_CHECKING:
    import httpx

    from themisto.settings import Settings

__all__ = ["Upstream"]

_CONNECT_S = 5.0
_READ_S = 30.0
_SILENCE_S = 45.0
"""The control plane says something on /events every 15 s; three times that is a dead line."""
_CONNECTIONS = 20
_KINDS = ("application/json", "application/problem+json", "application/x-ipynb+json", "text/event-stream")
_REMEDY = "The panel tries again by itself; tell the platform team if it stays so."


class Upstream:
    """One HTTP client for the life of the Jupyter server; built at the first request."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._given = settings

    @cached_property
    def settings(self) -> Settings:
        from themisto.settings import Settings

        return self._given or Settings()

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        import httpx

        if self.settings.url is None:
            raise MissingSetting(
                "This Jupyter is not part of a workbench: THEMISTO_URL is not set.",
                "Start it from the workbench's hub, or set THEMISTO_URL and THEMISTO_TOKEN before starting Jupyter.",
            )
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        return httpx.AsyncClient(base_url=self.settings.url.rstrip("/"), limits=limits)

    @property
    def _token(self) -> str:
        if self.settings.token is not None:
            return self.settings.token.get_secret_value()
        return os.environ.get("JUPYTERHUB_API_TOKEN", "")

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str],
        content: bytes,
        stream: bool,
    ) -> AsyncIterator[httpx.Response]:
        """The control plane's answer, its body not yet read.

        Problem documents are answers too and are passed on. Raises Unavailable when nothing, or
        something that is not the control plane, answers; MissingSetting without THEMISTO_URL.
        """
        import httpx

        http = self._http
        timeout = httpx.Timeout(_CONNECT_S, read=_SILENCE_S if stream else _READ_S)
        sent = {**headers, "Authorization": f"token {self._token}", "Accept-Encoding": "identity"}
        try:
            async with http.stream(
                method, path, params=params, headers=sent, content=content or None, timeout=timeout
            ) as response:
                _check(response)
                yield response
        except httpx.TimeoutException as error:
            raise Unavailable("The control plane did not answer in time.", _REMEDY) from error
        except httpx.TransportError as error:
            raise Unavailable("The control plane cannot be reached.", _REMEDY) from error


def _check(response: httpx.Response) -> None:
    """Let only the control plane's own kinds of answer through: no page of a proxy, no redirect."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.is_success and kind in _KINDS:
        return
    if response.is_error and kind == "application/problem+json":
        return
    if response.status_code in (502, 503, 504):
        raise Unavailable("The control plane does not answer.", _REMEDY)
    if response.status_code >= 400:
        raise error_for(response.status_code, {"detail": f"The control plane answered HTTP {response.status_code}."})
    raise Unavailable("Something else answers at THEMISTO_URL.", "Set THEMISTO_URL to the control plane's address.")
