"""docs/models.md: its examples, as they stand, against the real gateway."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import themisto

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)


def block(language: str, first: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == language and text.startswith(first)]
    return found


def run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Standard output, once the route is there."""
    until = time.monotonic() + 30
    while True:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < until, done.stderr[-3000:]
        time.sleep(0.5)


@pytest.fixture(scope="module")
def environment(serving, tmp_path_factory):
    control = serving._control
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(tmp_path_factory.mktemp("home")),
        "THEMISTO_URL": control.url,
        "THEMISTO_TOKEN": control.token,
        "GATEWAY_URL": control.discovery.gateway.http.rstrip("/"),
    }


@pytest.mark.timeout(180)
def test_deploy_then_ask_from_python_and_from_curl(serving, environment, tmp_path, monkeypatch):
    monkeypatch.setattr(themisto, "deploy", serving.deploy)  # the workbench here has no tracking server
    load(block("python", "# deploy"), tmp_path / "deploying_limits.py", monkeypatch)
    asked = run([sys.executable, "-c", block("python", "# ask")], environment, tmp_path)
    assert asked.split() == ["900.0", "kr", "2025-05-01", "limits@1"]
    answer = json.loads(run(["bash", "-c", block("bash", "token=")], environment, tmp_path))
    assert answer == {"limit": 900.0, "band": "kr", "since": 1746057600000000}


def load(source: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it as a module of its own file, where the source of its function is found."""
    file.write_text(source)
    monkeypatch.syspath_prepend(str(file.parent))
    importlib.import_module(file.stem)
