"""A kernel in somebody's server, driven through the Jupyter REST API and its websocket.

Messages: https://jupyter-client.readthedocs.io/en/stable/messaging.html, version 5.3, as JSON text
frames (the server's default websocket protocol).
"""

from __future__ import annotations

import json
import time
from typing import Any

import nbformat
import websocket
from nbformat import NotebookNode

from themisto.errors import Failed, Unavailable
from themisto.types import new_ulid

__all__ = ["RemoteKernel"]


class RemoteKernel:
    """Runs cells and collects their outputs as nbformat nodes.

    Between two cells nobody answers the server's pings, and after 90 s without an answer it ends the
    channel: one that was idle for `idle_s` is opened anew.
    """

    def __init__(self, url: str, headers: list[str], *, timeout_s: float, idle_s: float = 30.0) -> None:
        self._url, self._headers = url, headers
        self._timeout_s, self._idle_s = timeout_s, idle_s
        self._session = new_ulid()
        self._socket = self._open()
        self._used = time.monotonic()

    def _open(self) -> websocket.WebSocket:
        try:
            return websocket.create_connection(self._url, timeout=30, header=self._headers)
        except (OSError, websocket.WebSocketException) as error:
            raise Unavailable(f"The kernel's channel cannot be opened: {error}.", "See the server's log.") from error

    def run(self, source: str, cell_id: str) -> tuple[list[NotebookNode], int | None, bool]:
        """`(outputs, execution count, failed)` of one cell.

        Raises Failed when the kernel dies or the cell takes longer than allowed.
        """
        if time.monotonic() - self._used > self._idle_s:
            self._socket.close()
            self._socket = self._open()
        request = self._send(source, cell_id)
        outputs: list[NotebookNode] = []
        shown: dict[str, list[int]] = {}
        count: int | None = None
        failed = idle = replied = False
        until = time.monotonic() + self._timeout_s
        while not (idle and replied):
            message = self._receive(until)
            if message.get("parent_header", {}).get("msg_id") != request:
                self._watch(message)
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "execute_reply":
                replied = True
                count = content.get("execution_count")
                failed = content["status"] != "ok"
            elif kind == "status":
                idle = content["execution_state"] == "idle"
            else:
                _collect(message, outputs, shown)
        self._used = time.monotonic()
        return outputs, count, failed

    def _send(self, source: str, cell_id: str) -> str:
        message_id = new_ulid()
        header = {
            "msg_id": message_id,
            "msg_type": "execute_request",
            "username": "",
            "session": self._session,
            "date": "",
            "version": "5.3",
        }
        content = {
            "code": source,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        self._socket.send(
            json.dumps(
                {
                    "header": header,
                    "parent_header": {},
                    "metadata": {"cellId": cell_id},
                    "content": content,
                    "channel": "shell",
                    "buffers": [],
                }
            )
        )
        return message_id

    def _receive(self, until: float) -> dict[str, Any]:
        while True:
            self._socket.settimeout(max(0.1, until - time.monotonic()))
            try:
                raw = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                raise Failed(f"A cell ran longer than {self._timeout_s:.0f} s.", "Interrupt it and see why.") from None
            except (OSError, websocket.WebSocketException) as error:
                raise Failed(f"The kernel's channel closed: {error}.", "See the server's log.") from error
            if raw:
                message: dict[str, Any] = json.loads(raw)
                return message

    @staticmethod
    def _watch(message: dict[str, Any]) -> None:
        if message["msg_type"] == "status" and message["content"]["execution_state"] in (
            "restarting",
            "autorestarting",
            "dead",
        ):
            raise Failed("The kernel died.", "It may have run out of memory; choose a larger profile.")

    def close(self) -> None:
        self._socket.close()


def _collect(message: dict[str, Any], outputs: list[NotebookNode], shown: dict[str, list[int]]) -> None:
    kind, content = message["msg_type"], message["content"]
    display_id = content.get("transient", {}).get("display_id") if isinstance(content, dict) else None
    if kind == "clear_output":
        outputs.clear()
        shown.clear()
    elif kind == "update_display_data":
        for index in shown.get(str(display_id), []):
            outputs[index]["data"] = content["data"]
    elif kind in ("stream", "display_data", "execute_result", "error"):
        node = nbformat.v4.output_from_msg(message)
        last = outputs[-1] if outputs else None
        if kind == "stream" and last is not None and last.output_type == "stream" and last.name == node.name:
            last.text += node.text
            return
        outputs.append(node)
        if display_id is not None:
            shown.setdefault(str(display_id), []).append(len(outputs) - 1)
