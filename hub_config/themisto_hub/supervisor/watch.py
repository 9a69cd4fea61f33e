"""Keeps the processes up: started in order of readiness, restarted with a pause, stopped with all they started.

circus runs and reaps them; we add what it lacks: readiness before the next one starts, a growing
pause between restarts, and the end of a process's whole group when it dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from circus.arbiter import Arbiter
from circus.exc import ConflictError
from circus.watcher import Watcher
from tornado.ioloop import IOLoop

from themisto.errors import Failed
from themisto_hub.spawners.cgroup import clear, parent_of
from themisto_hub.supervisor.logfile import LogFile
from themisto_hub.supervisor.processes import Process

__all__ = ["MARK", "Supervisor", "sweep"]

MARK = "THEMISTO_WORKBENCH"
"""Environment variable that every process of a workbench carries, with the path of its state."""

_STEADY_S = 30.0
_MAX_PAUSE_S = 30.0
_SWEEP_S = 10.0


class Supervisor:
    """All processes of one workbench, from the first start to the last stop."""

    def __init__(self, state: Path, found: list[Process], tell: Callable[[str], None]) -> None:
        self._state = state
        self._processes = found
        self._tell = tell
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def run(self, when_up: Callable[[], None]) -> None:
        """Start everything, call `when_up`, and stay until Ctrl-C, SIGTERM or a closed terminal; then stop everything.

        Raises Failed, with the end of its log, if a process does not become ready.
        """
        run = self._state / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        watchers = [self._watcher(p) for p in self._processes]
        arbiter = _Arbiter(
            watchers,
            endpoint=f"ipc://{run}/control",  # in a 0700 folder: circus asks nobody who they are
            pubsub_endpoint=f"ipc://{run}/events",
            loop=IOLoop.current(),
            check_delay=0.5,
        )
        await arbiter.start()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        up = asyncio.create_task(self._bring_up(watchers))
        halt = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({up, halt}, return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                up.result()
                when_up()
                await halt
        finally:
            self._say("stopping")
            self._stopping.set()
            up.cancel()
            for task in self._tasks:
                task.cancel()
            await _when_free(arbiter.stop)
            sweep(self._state)
            self._say("stopped: nothing is left running")

    def _say(self, line: str) -> None:
        with suppress(OSError):  # a closed terminal, a full disk
            self._tell(line)

    async def _bring_up(self, watchers: list[Any]) -> None:
        loop = asyncio.get_running_loop()
        ready: dict[str, asyncio.Future[None]] = {p.name: loop.create_future() for p in self._processes}
        pairs = zip(self._processes, watchers, strict=True)
        await asyncio.gather(*(self._bring_one_up(process, watcher, ready) for process, watcher in pairs))

    async def _bring_one_up(self, process: Process, watcher: Any, ready: dict[str, asyncio.Future[None]]) -> None:
        await asyncio.gather(*(asyncio.shield(ready[name]) for name in process.after))
        began = time.monotonic()
        kept = asyncio.create_task(self._keep(process, watcher, ready[process.name]))
        self._tasks.append(kept)
        try:
            waited = asyncio.wait({kept, ready[process.name]}, return_when=asyncio.FIRST_COMPLETED)
            done, _ = await asyncio.wait_for(waited, process.ready_timeout_s)
            if kept in done:
                kept.result()
        except TimeoutError:
            tail = _tail(self._log(process.name))
            raise Failed(f"{process.name} did not become ready.", f"The end of its log:\n{tail}") from None
        self._say(f"{process.name} ready after {time.monotonic() - began:.1f} s")

    async def _keep(self, process: Process, watcher: Any, first: asyncio.Future[None]) -> None:
        pause = 1.0
        while not self._stopping.is_set():
            began = time.monotonic()
            await _when_free(watcher.start)
            while watcher.get_active_processes() and not await _ready(process.ready_url):
                if time.monotonic() - began > process.ready_timeout_s:
                    await _when_free(watcher.stop)
                await asyncio.sleep(0.1)
            if watcher.get_active_processes() and not first.done():
                first.set_result(None)
            while watcher.get_active_processes():  # noqa: ASYNC110 - circus reaps by polling and tells nobody
                await asyncio.sleep(0.3)
            if self._stopping.is_set():
                return
            await _when_free(watcher.stop)
            lived = time.monotonic() - began
            pause = 1.0 if lived > _STEADY_S else min(pause * 2, _MAX_PAUSE_S)
            self._say(f"{process.name} ended after {lived:.1f} s; it starts again in {pause:.0f} s")
            await asyncio.sleep(pause)

    def _watcher(self, process: Process) -> Any:
        log = {"stream": LogFile(self._log(process.name), self._say)}
        command = ["setpriv", "--pdeathsig", "TERM"]
        if process.uid is not None:
            command += ["--reuid", str(process.uid), "--regid", str(process.uid)]
            gids = ",".join(map(str, process.gids))
            command += ["--groups", gids] if gids else ["--clear-groups"]
            command += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        command += ["--", *process.command]
        return Watcher(
            process.name,
            command[0],
            args=command[1:],
            working_dir=str(self._state / process.folder),
            env=process.environment | {MARK: str(self._state), "HOME": str(self._state / process.folder)},
            copy_env=False,
            autostart=False,
            respawn=False,
            stop_children=True,
            graceful_timeout=10,
            stdout_stream=log,
            stderr_stream=log,
            hooks={"after_reap": (_end_group, False)},
        )

    def _log(self, name: str) -> Path:
        return self._state / "logs" / f"{name}.log"


def sweep(state: Path) -> int:
    """Kill what is left of a workbench of this state and wait for its end; returns how many processes.

    Everything carries our mark; what threw it away is still in a control group, where there are any.
    """
    killed = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(state):
                process.kill()
                killed.append(process)
        except psutil.Error:
            continue
    until = time.monotonic() + _SWEEP_S
    while any(_alive(process) for process in killed) and time.monotonic() < until:
        time.sleep(0.02)
    return len(killed) + clear(parent_of(state))


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


class _Arbiter(Arbiter):  # type: ignore[misc]
    """circus's own, whose periodic look at the watchers skips a turn while something else goes on."""

    def manage_watchers(self) -> Any:
        try:
            return super().manage_watchers()
        except ConflictError:
            return None


async def _when_free(command: Callable[[], Awaitable[object]]) -> None:
    """circus does one thing at a time and refuses a second; wait for our turn."""
    while True:
        try:
            await command()
        except ConflictError:
            await asyncio.sleep(0.02)
        else:
            return


def _end_group(watcher: Any, arbiter: Any, hook_name: str, process_pid: int | None = None, **_: Any) -> bool:
    """A process that died by itself must leave no grandchildren."""
    if process_pid is not None:
        try:
            os.killpg(process_pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return True
    return True


async def _ready(url: str | None) -> bool:
    if url is None:
        return True
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
            return (await http.get(url)).status_code < 500
    except httpx.TransportError:
        return False


def _tail(file: Path, lines: int = 15) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else "(empty)"
