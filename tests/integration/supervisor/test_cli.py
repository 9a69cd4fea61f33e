"""`themisto up` and its sisters, when something is not as it must be: one sentence each, exit code 1, nothing left."""

import os
import socket
import subprocess
import sys

import pytest


def themisto(*words, state, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "themisto_hub.cli", *words],
        env={**os.environ, "THEMISTO_STATE": str(state), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def refusal(*words, state, **environment):
    done = themisto(*words, state=state, **environment)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_port_in_use_is_named_with_who_holds_it(state, free_base):
    base = free_base()
    with socket.socket() as other:
        other.bind(("127.0.0.1", base + 5))
        other.listen()
        said = refusal("up", state=state, THEMISTO_PORT=str(base))
    assert said.startswith(f"themisto: Port {base + 5} is in use by ")
    assert str(os.getpid()) in said
    assert f"THEMISTO_PORT={base + 100} make up" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_said_before_anything_starts(state):
    small = state / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        assert "2 GiB are needed" in refusal("up", state=small / "state")
        free = os.statvfs(small)
        (small / "full").write_bytes(bytes(free.f_bavail * free.f_frsize))
        assert "The disk is full" in refusal("up", state=small / "a" / "b" / "c" / "d")
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_another_users_state_is_left_alone(state):
    os.chown(state, 12345, 12345)
    assert "belongs to another user (uid 12345)" in refusal("up", state=state)
    os.chown(state, 0, 0)


@pytest.mark.parametrize("port", ["80", "many"])
def test_a_setting_that_cannot_be_is_named(state, port):
    for command in ("up", "down", "doctor"):
        assert f"THEMISTO_PORT cannot be '{port}'" in refusal(command, state=state, THEMISTO_PORT=port)


def test_a_model_server_that_is_not_installed_is_said(state):
    said = refusal("up", state=state, THEMISTO_TRITON=str(state / "nowhere"))
    assert said.endswith("Run: make setup.")


def test_down_finds_nothing_and_says_so(state):
    done = themisto("down", state=state)
    assert (done.returncode, done.stdout) == (0, "nothing is up here\n")


def test_down_ends_what_a_killed_supervisor_left(state):
    left = subprocess.Popen(["sleep", "600"], env={"THEMISTO_WORKBENCH": str(state)})
    assert "ended 1 processes" in themisto("down", state=state).stdout
    assert left.wait(5) < 0


def test_down_stops_the_one_that_runs(keep):
    keeper = keep("web").up()
    assert themisto("down", state=keeper.state).stdout == "stopped\n"
    assert keeper.process.wait(5) == 0
    assert keeper.left() == []


def test_doctor_asks_where_the_running_workbench_is(keep, free_base):
    keeper = keep("worker").up()
    said = themisto("doctor", state=keeper.state, THEMISTO_PORT=str(free_base())).stdout
    assert "a test" in said, "why there is no isolation, as the running one found"
