"""A supervisor over small processes of our own, run as `themisto up` runs the real ones: in the foreground."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from themisto_hub.settings import Deployment
from themisto_hub.supervisor.watch import MARK, sweep

KEEPER = Path(__file__).with_name("keeper.py")


def until(check, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.1)
    return False


class Keeper:
    """`keeper.py` as a child process, and what belongs to it."""

    def __init__(self, state, *names):
        self.state = state
        self._log = state / "keeper.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, KEEPER, state, *names], stdout=log, stderr=log, start_new_session=True
            )

    @property
    def told(self):
        return self._log.read_text()

    def up(self):
        assert until(lambda: "up\n" in self.told or self.process.poll() is not None)
        assert "up\n" in self.told, self.told
        return self

    def pid(self, name):
        file = self.state / "work" / f"{name}.pid"
        assert until(lambda: file.exists() and file.read_text())
        return int(file.read_text())

    def left(self):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.state) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def end(self, number=signal.SIGINT):
        os.killpg(self.process.pid, number)
        return self.process.wait(20)


@pytest.fixture
def state():
    """A folder with a short path (sockets lie in it) that other users may pass."""
    folder = Path(tempfile.mkdtemp(prefix="ts-"))
    for name in ("work", "logs", "run"):
        (folder / name).mkdir()
    yield folder
    sweep(folder)
    shutil.rmtree(folder)


@pytest.fixture
def keep(state):
    """Start a supervisor over the named processes: `web`, `worker`, `late` (waits for web), `broken`, `deaf`."""
    started = []

    def start(*names):
        started.append(Keeper(state, *names))
        return started[-1]

    yield start
    for keeper in started:
        if keeper.process.poll() is None:
            keeper.process.kill()
            keeper.process.wait(10)


@pytest.fixture
def deployment(state):
    """Settings of a workbench on that state."""
    return lambda **given: Deployment(state=state, **given)
