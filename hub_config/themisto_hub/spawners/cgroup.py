"""Control groups: memory, CPU and process limits of one server, on cgroup v2 or v1 (hybrid counts as v1)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["Cgroup", "clear", "parent_of"]

_CONTROLLERS = ("memory", "cpu", "pids")
_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


class Cgroup:
    """One group of processes, below `parent` in every controller's tree.

    create() before the first process joins, by writing its pid to `procs_files`; destroy() kills
    whoever is left and removes the group.
    """

    def __init__(self, parent: str, name: str, root: Path = _ROOT) -> None:
        self._root = root
        self._v2 = "memory" in _read(root / "cgroup.controllers").split()
        trees = {kind: root if self._v2 else root / kind for kind in _CONTROLLERS}
        self._dirs = {kind: tree / parent / name for kind, tree in trees.items() if tree.is_dir()}

    def create(self, *, memory_bytes: int, cpu: float, pids: int) -> None:
        """Make the group and set its limits. Raises OSError where the machine does not let us."""
        for folder in self._folders:
            folder.parent.mkdir(exist_ok=True)
            if self._v2:
                for above in (self._root, folder.parent):
                    _enable(above)
            folder.mkdir(exist_ok=True)
        self._set("memory", {"memory.limit_in_bytes": memory_bytes}, {"memory.max": memory_bytes})
        self._set("memory", {"memory.memsw.limit_in_bytes": memory_bytes}, {"memory.swap.max": 0})
        # The kernel dies, the server lives to say so.
        self._set("memory", {}, {"memory.oom.group": 0})
        quota = int(cpu * _PERIOD_US)
        self._set("cpu", {"cpu.cfs_quota_us": quota}, {"cpu.max": f"{quota} {_PERIOD_US}"})
        self._set("pids", {"pids.max": pids}, {"pids.max": pids})

    def _set(self, kind: str, v1: dict[str, int], v2: dict[str, int | str]) -> None:
        for name, value in (v2 if self._v2 else v1).items():
            file = self._dirs[kind] / name if kind in self._dirs else None
            if file is not None and file.exists():  # swap accounting is compiled out on some kernels
                file.write_text(str(value))

    @property
    def _folders(self) -> Iterable[Path]:
        return dict.fromkeys(self._dirs.values())

    @property
    def procs_files(self) -> list[Path]:
        """A process that writes its pid to each of these is in, with all it starts later."""
        return [folder / "cgroup.procs" for folder in self._folders]

    @property
    def oom_kills(self) -> int:
        """How many processes the memory limit has ended so far."""
        file = self._dirs.get("memory", self._root) / ("memory.events" if self._v2 else "memory.oom_control")
        counts = dict(line.split() for line in _read(file).splitlines() if len(line.split()) == 2)
        return int(counts.get("oom_kill", 0))

    @property
    def pids(self) -> set[int]:
        return {int(pid) for file in self.procs_files for pid in _read(file).split()}

    async def destroy(self) -> None:
        """Kill all that is left in the group, then remove it."""
        for _ in range(50):
            left = self.pids
            if not left:
                break
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.1)
        for folder in self._folders:
            with suppress(OSError):
                folder.rmdir()


def parent_of(state: Path) -> str:
    """Name of the group above those of all servers of the workbench that keeps its state in `state`."""
    return f"themisto-{hashlib.sha256(str(state).encode()).hexdigest()[:12]}"


def clear(parent: str, root: Path = _ROOT) -> int:
    """Kill whoever is left below `parent`, whatever they did to their environment, and remove the groups.

    Returns how many processes there were.
    """
    killed: set[int] = set()
    for tree in {root, *(root / kind for kind in _CONTROLLERS)}:
        inner = sorted((folder for folder in (tree / parent).rglob("*") if folder.is_dir()), reverse=True)
        for folder in [*inner, tree / parent]:
            for _ in range(50):
                left = [int(pid) for pid in _read(folder / "cgroup.procs").split()]
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if not left:
                    break
                killed.update(left)
                time.sleep(0.1)
            with suppress(OSError):
                folder.rmdir()
    return len(killed)


def _enable(folder: Path) -> None:
    wanted = " ".join(f"+{kind}" for kind in _CONTROLLERS)
    enabled = set(_read(folder / "cgroup.subtree_control").split())
    if not enabled.issuperset(_CONTROLLERS):
        (folder / "cgroup.subtree_control").write_text(wanted)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
