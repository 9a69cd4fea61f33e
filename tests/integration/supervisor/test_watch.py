"""What the supervisor keeps up, what it brings back and what it leaves behind: nothing."""

import os
import signal
import subprocess

import psutil
import pytest
from tests.integration.supervisor.conftest import until

from themisto_hub.spawners.cgroup import Cgroup, parent_of
from themisto_hub.supervisor.lock import as_running, holder
from themisto_hub.supervisor.watch import sweep


def test_a_killed_process_comes_back_and_its_grandchildren_do_not(keep):
    keeper = keep("web", "worker").up()
    before, worker = keeper.pid("web"), keeper.pid("worker")
    assert until(lambda: psutil.Process(before).children())
    os.kill(before, signal.SIGKILL)
    assert until(lambda: keeper.pid("web") != before)
    assert keeper.pid("worker") == worker
    assert "web ended after" in keeper.told


def test_a_process_starts_after_what_it_waits_for(keep):
    told = keep("late", "web").up().told
    assert told.index("web ready") < told.index("late ready")


def test_ctrl_c_stops_everything_it_started(keep):
    keeper = keep("web", "worker", "late").up()
    assert keeper.end() == 0
    assert keeper.left() == []
    assert "stopped: nothing is left running" in keeper.told
    assert holder(keeper.state) is None


def test_a_closed_terminal_stops_everything(keep):
    keeper = keep("web").up()
    assert keeper.end(signal.SIGHUP) == 0
    assert keeper.left() == []


def test_a_process_that_does_not_listen_is_stopped_too(keep):
    keeper = keep("deaf").up()
    assert keeper.end() == 0
    assert keeper.left() == []


def test_a_process_that_does_not_come_up_is_named_with_the_end_of_its_log(keep):
    keeper = keep("worker", "broken")
    assert keeper.process.wait(30) == 1
    assert "refused: broken did not become ready." in keeper.told
    assert "the word that says why" in keeper.told
    assert keeper.left() == []


def test_a_second_supervisor_of_the_same_state_is_refused(keep):
    first = keep("worker").up()
    pid = first.pid("worker")
    log = first.told
    second = keep("worker")
    assert second.process.wait(20) == 1
    assert f"is up already (process {first.process.pid})" in second.told
    assert "up\n" in log
    assert first.pid("worker") == pid


def test_others_find_the_supervisor_that_runs(keep, deployment):
    keeper = keep("worker").up()
    assert holder(keeper.state) == keeper.process.pid
    assert as_running(deployment(port=9000)).port == 8000
    keeper.end()
    assert as_running(deployment(port=9000)).port == 9000


def test_what_a_killed_supervisor_leaves_is_swept(keep):
    keeper = keep("web", "deaf").up()
    keeper.end(signal.SIGKILL)
    assert holder(keeper.state) is None, "a dead supervisor holds nothing, whatever its file says"
    sweep(keeper.state)
    assert keeper.left() == []
    again = keep("web").up()
    assert again.end() == 0


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/sys/fs/cgroup/memory", os.W_OK), reason="makes a control group (v1)"
)
def test_who_threw_the_mark_away_is_found_by_the_control_group(state):
    group = Cgroup(parent_of(state), "1-default")
    group.create(memory_bytes=2**26, cpu=1, pids=10)
    hidden = subprocess.Popen(["sleep", "600"], env={}, start_new_session=True)
    for file in group.procs_files:
        file.write_text(str(hidden.pid))
    assert sweep(state) == 1
    assert hidden.wait(5) == -signal.SIGKILL
    assert not any(file.parent.parent.exists() for file in group.procs_files)
