"""Health: the streams' page on loopback, for the supervisor, the doctor and Prometheus."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from themisto_hub.streams.metrics import StreamState

__all__ = ["serving"]


@contextmanager
def serving(port: int, exposition: Callable[[], bytes], states: Callable[[], Sequence[StreamState]]) -> Iterator[None]:
    """`/healthz` (JSON, 200 while the process lives) and `/metrics`, while the block runs. Raises OSError."""

    class Page(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.path == "/healthz":
                body = json.dumps([state.model_dump() for state in states()]).encode()
                self._answer(200, "application/json", body)
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, exposition())
            else:
                self._answer(404, "text/plain", b"not found\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: it is asked every few seconds."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
