"""A way to a server that can be made slow, silent, or cut: sockets between the product's own and the server's."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Self

__all__ = ["Proxy"]


class Proxy:
    """`with Proxy(("127.0.0.1", 9042)) as proxy:` - `proxy.port` leads there.

    delay_s: each answer comes so much later. cut_after: bytes to the server, after which all connections are cut.
    """

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self.delay_s = 0.0
        self.cut_after: int | None = None
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._up = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Every connection ends, and none begins any more."""
        self._up = False
        for side in self._open:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
        self._open.clear()

    def mend(self) -> None:
        self.cut_after, self.delay_s, self._up = None, 0.0, True

    @property
    def is_cut(self) -> bool:
        return not self._up

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._up:
                near.close()
                continue
            far = socket.create_connection(self._to)
            for side in (near, far):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [near, far]
            threading.Thread(target=self._ask, args=(near, far), daemon=True).start()
            answers: deque[tuple[float, bytes]] = deque()
            more = threading.Condition()
            threading.Thread(target=self._hear, args=(far, answers, more), daemon=True).start()
            threading.Thread(target=self._answer, args=(near, answers, more), daemon=True).start()

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                if self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut()
                        return
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)

    def _hear(self, far: socket.socket, answers: deque[tuple[float, bytes]], more: threading.Condition) -> None:
        data = b"."
        while data:
            try:
                data = far.recv(65536)
            except OSError:
                data = b""
            with more:
                answers.append((time.monotonic() + self.delay_s, data))
                more.notify()

    def _answer(self, near: socket.socket, answers: deque[tuple[float, bytes]], more: threading.Condition) -> None:
        while True:
            with more:
                more.wait_for(lambda: bool(answers))
                when, data = answers.popleft()
            time.sleep(max(0.0, when - time.monotonic()))
            try:
                if not data:
                    near.shutdown(socket.SHUT_WR)
                    return
                near.sendall(data)
            except OSError:
                return
