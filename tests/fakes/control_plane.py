"""A stand-in for the control plane as the Lab panel sees it: set answers, recorded requests, live events.

It knows no rules: it answers what a test put there, over real HTTP and in the real shapes (answers are
made from the nouns' own models). It can be taken down and brought up again on the same port.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

__all__ = ["Asked", "ControlPlaneStandIn"]

PREFIX = "/services/themisto"


class Asked(NamedTuple):
    """One request, as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class ControlPlaneStandIn:
    """`with ControlPlaneStandIn() as control: control.answer("whoami", {...}); control.publish("endpoint", {...})`."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._answers: dict[str, tuple[int, str, bytes, dict[str, str]]] = {}
        self._held: dict[str, threading.Event] = {}
        self._listeners: set[queue.Queue[bytes | None]] = set()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """What THEMISTO_URL is set to."""
        return f"http://127.0.0.1:{self._port}{PREFIX}"

    @property
    def listening(self) -> int:
        """How many are on /events now."""
        return len(self._listeners)

    def answer(
        self, path: str, body: Any, *, status: int = 200, kind: str = "application/json", **headers: str
    ) -> None:
        """From now on `path` (below /api/v1, or `/.well-known/…`) is answered so, whatever the method.

        With a query (`runs?limit=5`) only for that query. headers: `x_next="…"` is `x-next: …`.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._answers[path] = (status, kind, content, {name.replace("_", "-"): one for name, one in headers.items()})

    def answered(self, path: str) -> Any:
        """What `path` is answered now."""
        return json.loads(self._answers[path][2])

    def problem(self, path: str, status: int, slug: str, detail: str, remedy: str = "") -> None:
        """From now on `path` is refused with this problem document."""
        body = {"type": f"urn:themisto:{slug}", "title": slug, "status": status, "detail": detail, "remedy": remedy}
        self.answer(path, body, status=status, kind="application/problem+json")

    def hold(self, path: str) -> Callable[[], None]:
        """From now on `path` is not answered before what this returns is called."""
        self._held[path] = threading.Event()
        return self._held[path].set

    def reset(self) -> None:
        """Forget all answers and requests; come up, if it was down."""
        self._answers.clear()
        self._held.clear()
        self.asked.clear()
        if self._server is None:
            self.start()

    def publish(self, kind: str, data: Any) -> None:
        """Tell all listeners."""
        self._send_all(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())

    def hang_up(self) -> None:
        """End all event streams."""
        for listener in tuple(self._listeners):
            listener.put(None)

    def start(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Take it down; `start` brings it back on the same port."""
        self.hang_up()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer_to(self, path: str, query: str) -> tuple[int, str, bytes, dict[str, str]]:
        if path in self._held:
            self._held[path].wait(30)
        missing = (404, "application/problem+json", b'{"type": "urn:themisto:not-found", "detail": "Not Found"}', {})
        return self._answers.get(f"{path}?{query}") or self._answers.get(path) or missing

    def _send_all(self, block: bytes) -> None:
        for listener in tuple(self._listeners):
            listener.put(block)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        control = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                path, _, query = self.path.partition("?")
                path = path.removeprefix(PREFIX).removeprefix("/api/v1/")
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                control.asked.append(Asked(self.command, path, query, headers, body))
                if path == "events":
                    self._stream()
                    return
                status, kind, content, headers = control._answer_to(path, query)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def _stream(self) -> None:
                own: queue.Queue[bytes | None] = queue.Queue()
                control._listeners.add(own)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.end_headers()
                try:
                    for block in _blocks(own):
                        self.wfile.write(block)
                except OSError:
                    return
                finally:
                    control._listeners.discard(own)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler


def _blocks(own: queue.Queue[bytes | None]) -> Iterator[bytes]:
    """The stream of one listener: a greeting, what is told, and a heartbeat where nothing is."""
    yield b"retry: 2000\nevent: hello\ndata: {}\n\n"
    while True:
        try:
            block = own.get(timeout=0.5)
        except queue.Empty:
            block = b": still here\n\n"
        if block is None:
            return
        yield block
