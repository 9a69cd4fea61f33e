"""The workbench under test: started as `make up` does, on ports and a state of its own, and stopped whole."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from themisto.errors import Conflict, Failed
from themisto_hub.settings import Deployment
from themisto_hub.supervisor.lock import holder
from themisto_hub.supervisor.up import users_file
from themisto_hub.supervisor.watch import MARK

__all__ = ["House"]

_PORTS = 20
_UP_WITHIN_S = 180.0


class House:
    """`themisto up` as a child process."""

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self.settings = Deployment(state=self.state, port=_free_base())
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def start(self) -> list[str]:
        """Start afresh and wait until all is ready; returns the lines that `themisto up` printed.

        Raises Conflict while another one runs on this state, Failed if it does not come up.
        """
        pid = holder(self.state)
        if pid is not None:
            raise Conflict(f"A workbench runs on {self.state} (process {pid}).", f"Stop it first: kill {pid}.")
        shutil.rmtree(self.state, ignore_errors=True)
        environment = {
            **os.environ,
            "THEMISTO_STATE": str(self.state),
            "THEMISTO_PORT": str(self.settings.port),
            "THEMISTO_PROFILES_DIR": str(self.settings.profiles_dir.absolute()),
        }
        self._process = subprocess.Popen(
            # It ends with us, however we end.
            ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "themisto_hub.cli", "up"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        return self._until_up()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def _until_up(self) -> list[str]:
        until = time.monotonic() + _UP_WITHIN_S
        told: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.1, until - time.monotonic()))
            except queue.Empty:
                raise Failed("The workbench did not come up in time.", "\n".join(told[-10:])) from None
            if line is None:
                raise Failed("The workbench did not come up.", "\n".join(told[-20:]))
            told.append(line)
            if line.startswith("themisto is up"):
                return told

    @property
    def passwords(self) -> dict[str, str]:
        """The ready-made users' passwords, as `themisto up` printed them."""
        passwords: dict[str, str] = json.loads(users_file(self.state).read_text())
        return passwords

    def stop(self) -> None:
        """Ctrl-C, and wait."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise Failed("The workbench did not stop within 60 s of Ctrl-C.", "It was killed.") from None

    def left_running(self) -> list[str]:
        """Processes and ports of this workbench that are still there; empty is as it must be."""
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.state):
                    left.append(f"process {process.pid} {process.name()}")
            except psutil.Error:
                continue
        return left + [f"port {port}" for port in self.settings.ports.all if _taken(port)]


def _free_base() -> int:
    for base in range(18000, 30000, 50):
        if not any(_taken(port) for port in range(base, base + _PORTS)):
            return base
    raise Failed("No twenty free ports in a row between 18000 and 30000.", "Stop other programs.")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
