"""Control groups on both versions, on folders that look like the kernel's."""

import asyncio
from pathlib import Path

import pytest

from themisto_hub.spawners.cgroup import Cgroup

GIB = 2**30


@pytest.fixture
def v1(tmp_path):
    """Hybrid: the controllers in trees of their own, an empty v2 tree beside them."""
    files = {
        "memory": ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"],
        "cpu": ["cpu.cfs_quota_us"],
        "pids": ["pids.max"],
    }
    for kind, names in files.items():
        make(tmp_path / kind / "themisto" / "1-default", ["cgroup.procs", *names])
    (tmp_path / "unified").mkdir()
    return tmp_path


@pytest.fixture
def v2(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    make(tmp_path, ["cgroup.subtree_control"])
    make(tmp_path / "themisto", ["cgroup.subtree_control"])
    names = ["memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "cpu.max", "pids.max"]
    make(tmp_path / "themisto" / "1-default", ["cgroup.procs", *names])
    return tmp_path


def make(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("")


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir() if p.is_file() and p.read_text()}


def test_limits_on_v1(v1):
    group = Cgroup("themisto", "1-default", v1)
    group.create(memory_bytes=2 * GIB, cpu=1.5, pids=100)
    found = {k: contents(v1 / k / "themisto" / "1-default") for k in ("memory", "cpu", "pids")}
    assert found == {
        "memory": {"memory.limit_in_bytes": str(2 * GIB), "memory.memsw.limit_in_bytes": str(2 * GIB)},
        "cpu": {"cpu.cfs_quota_us": "150000"},
        "pids": {"pids.max": "100"},
    }
    assert len(group.procs_files) == 3


def test_limits_on_v2(v2):
    group = Cgroup("themisto", "1-default", v2)
    group.create(memory_bytes=2 * GIB, cpu=1.5, pids=100)
    assert contents(v2 / "themisto" / "1-default") == {
        "memory.max": str(2 * GIB),
        "memory.swap.max": "0",
        "memory.oom.group": "0",
        "cpu.max": "150000 100000",
        "pids.max": "100",
    }
    assert (v2 / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert (v2 / "themisto" / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert len(group.procs_files) == 1


def test_processes_ended_by_the_memory_limit_are_counted(v1, v2):
    (v2 / "themisto" / "1-default" / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert Cgroup("themisto", "1-default", v2).oom_kills == 2
    (v2 / "cgroup.controllers").unlink()
    (v1 / "memory" / "themisto" / "1-default" / "memory.oom_control").write_text("under_oom 0\noom_kill 7\n")
    assert Cgroup("themisto", "1-default", v1).oom_kills == 7


def test_a_group_that_never_was_can_be_destroyed(tmp_path):
    (tmp_path / "memory").mkdir()
    group = Cgroup("themisto", "gone", tmp_path)
    asyncio.run(group.destroy())
    assert group.oom_kills == 0
