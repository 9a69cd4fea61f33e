"""What makes a job a server to the hub: it answers at its address, and says now and then that it is alive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from themisto.types import utcnow

__all__ = ["Presence"]

_log = logging.getLogger("themisto.job")
_EVERY_S = 60.0
_TIMEOUT_S = 10.0
_WORDS = b"A job runs here.\n"


class Presence:
    """Answers GET at `prefix`, refuses all else; posts activity, so that no culler takes a job for idle."""

    def __init__(self, address: tuple[str, int], prefix: str, activity_url: str, token: str, server: str) -> None:
        self._address = address
        self._prefix = prefix
        self._activity_url = activity_url
        self._token = token
        self._server = server
        self._over = threading.Event()

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """As JupyterHub tells a single-user server."""
        service = urlsplit(env["JUPYTERHUB_SERVICE_URL"])
        return cls(
            (service.hostname or "127.0.0.1", service.port or 8888),
            env["JUPYTERHUB_SERVICE_PREFIX"],
            env.get("JUPYTERHUB_ACTIVITY_URL", ""),
            env["JUPYTERHUB_API_TOKEN"],
            env.get("JUPYTERHUB_SERVER_NAME", ""),
        )

    def __enter__(self) -> Self:
        self._http = ThreadingHTTPServer(self._address, _handler(self._prefix))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        if self._activity_url:
            threading.Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._http.shutdown()
        self._http.server_close()

    def _tell(self) -> None:
        import httpx

        while True:
            now = utcnow().isoformat()
            body = {"servers": {self._server: {"last_activity": now}}, "last_activity": now}
            headers = {"Authorization": f"token {self._token}"}
            try:
                httpx.post(self._activity_url, json=body, headers=headers, timeout=_TIMEOUT_S).raise_for_status()
            except httpx.HTTPError as error:
                _log.warning("the hub did not hear that this job is alive: %s", error)
            if self._over.wait(_EVERY_S):
                return


def _handler(prefix: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_S

        def do_GET(self) -> None:
            here = self.path.partition("?")[0].rstrip("/") in (prefix.rstrip("/"), f"{prefix.rstrip('/')}/api")
            self.send_response(200 if here else 403)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(_WORDS) if here else 0))
            self.end_headers()
            if here:
                self.wfile.write(_WORDS)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
