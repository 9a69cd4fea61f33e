"""`scripts/install`, when the machine lacks something: one sentence that says what to do."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture
def checkout(tmp_path):
    """The scripts and the lock of uv, in a folder with nothing installed."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "uv.txt").write_text("uv==0.0\n")
    return tmp_path


@pytest.fixture
def python(tmp_path):
    """A stand-in for an interpreter: what it answers to a piece of code, by a word in that code."""

    def make(**answers):
        file = tmp_path / "python3"
        cases = "\n".join(f"*{word}*) {answer} ;;" for word, answer in answers.items())
        file.write_text(f'#!/bin/bash\ncase "$*" in\n{cases}\nesac\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return str(file)

    return make


def install(checkout, *words):
    done = subprocess.run(
        [checkout / "scripts" / "install", *words], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def fails_with(said):
    """A stand-in for pip that says this and fails."""
    script = "\n".join(["#!/bin/sh", f"echo '{said}'", "exit 1"])
    return f'mkdir -p .venvs/uv/bin; echo "{script}" > .venvs/uv/bin/pip; chmod +x .venvs/uv/bin/pip'


def test_no_such_interpreter(checkout):
    code, said = install(checkout, "uv", "/nowhere/python3")
    assert code == 1
    assert said.startswith("themisto: there is no /nowhere/python3; name another: make PYTHON=")


def test_an_interpreter_of_another_version(checkout, python):
    code, said = install(checkout, "uv", python(version_info="exit 1"))
    assert code == 1
    assert "is not Python 3.11 or 3.12" in said


def test_an_interpreter_without_venv(checkout, python):
    code, said = install(checkout, "uv", python(ensurepip="exit 1"))
    assert code == 1
    assert "has no venv module; apt-get install python3-venv" in said


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full; free some space"),
        ("Temporary failure in name resolution", "a package registry cannot be reached; check the network"),
        ("Network is unreachable", "a package registry cannot be reached; check the network"),
        ("error: command gcc not found", "needs a C compiler here; apt-get install build-essential"),
        ("something else", "installing uv failed at: .venvs/uv/bin/pip"),
    ],
)
def test_what_went_wrong_is_one_sentence(checkout, python, problem, sentence):
    code, said = install(checkout, "uv", python(venv=fails_with(problem)))
    assert code == 1
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert "(details: build/install-uv.log)" in said
    assert not (checkout / "build" / "ready" / "uv").exists()


def test_a_moved_checkout_is_installed_anew(checkout):
    (checkout / "build" / "ready").mkdir(parents=True)
    (checkout / "build" / "ready" / "workbench").touch()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    code, said = install(checkout, "check")
    assert (code, said) == (0, "the environments here do not work any more; they are made again")
    assert not (checkout / "build" / "ready").exists()
    assert not (checkout / ".venv").exists()


def test_nothing_is_said_of_a_checkout_where_nothing_is_installed(checkout):
    assert install(checkout, "check") == (0, "")
