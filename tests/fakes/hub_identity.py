"""A stand-in for the hub's `GET /hub/api/user`: who a token belongs to, over real HTTP, in a thread.

The real hub is used where its behaviour matters; this one is for tests of services that only ask
the hub who is calling. It answers as JupyterHub does: 200 with the user model, 403 for a token it
does not know, and it can be taken down and brought up again on the same port.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["HubIdentity"]


class HubIdentity:
    """`with HubIdentity() as hub: token = hub.add("scientist", ["data-science"])`.

    api_url: ends in `/hub/api`, as `Deployment.hub_api` does.
    asked: how many times identities were asked for (to see caching).
    """

    def __init__(self, port: int = 0) -> None:
        self.asked = 0
        self._models: dict[str, dict[str, Any]] = {}
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    def add(self, name: str, groups: list[str], *, scopes: list[str] | None = None, token: str | None = None) -> str:
        """Make `name` known and return the person's token; calling it again changes groups and scopes."""
        token = token or f"token-of-{name}"
        self._models[token] = {
            "kind": "user",
            "name": name,
            "admin": False,
            "groups": list(groups),
            "scopes": list(scopes or []),
            "session_id": None,
        }
        return token

    def remove(self, token: str) -> None:
        """The hub forgets the token (revoked, or its server stopped)."""
        self._models.pop(token, None)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hub/api"

    def start(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Take it down; `start` brings it back on the same port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/hub/api/user":
                    self._send(404, {"status": 404, "message": "Not Found"})
                    return
                hub.asked += 1
                token = self.headers.get("Authorization", "").partition(" ")[2].strip()
                model = hub._models.get(token)
                if model is None:
                    self._send(403, {"status": 403, "message": "Missing or invalid credentials."})
                else:
                    self._send(200, model)

            def _send(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler
