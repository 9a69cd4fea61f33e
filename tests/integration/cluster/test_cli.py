"""`themisto render` against a control plane that runs: a file, a sentence, or an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
import yaml
from pydantic import SecretStr
from tests.unit.cluster.plans import DIGEST
from tests.unit.control.serving.conftest import World

from themisto_hub.control.app import create_app
from themisto_hub.control.context import Control
from themisto_hub.settings import Keys
from themisto_hub.supervisor.keyring import Keyring

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def world(tmp_path, free_base, monkeypatch) -> Iterator[World]:
    """A control plane on its port, with an endpoint that answers."""
    monkeypatch.setenv("THEMISTO_CLUSTER_TRITON_IMAGE", f"tritonserver{DIGEST}")
    monkeypatch.setenv("THEMISTO_CLUSTER_PULLER_IMAGE", f"themisto{DIGEST}")
    made = World(tmp_path / "state", profiles_dir=ROOT / "profiles", port=free_base())
    made.live(cell="a", tier="prod")
    keys = Keyring(tmp_path / "state" / "keys" / "keys.json")
    control = Control(made.control.settings, Keys(operator=SecretStr(keys["operator"])), clock=made.clock)
    server = uvicorn.Server(
        uvicorn.Config(create_app(control, workers=()), port=made.control.settings.ports.control, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield made
    server.should_exit = True
    thread.join(20)
    made.control.close()


def themisto(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    settings = world.control.settings
    environment = {**os.environ, "THEMISTO_STATE": str(settings.state), "THEMISTO_PORT": str(settings.port)}
    command = [sys.executable, "-m", "themisto_hub.cli", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def test_render_writes_yaml_to_the_standard_output(world):
    done = themisto(world, "render", "credit")
    assert done.returncode == 0, done.stderr
    assert {one["kind"] for one in yaml.safe_load_all(done.stdout)} >= {"Deployment", "Service", "NetworkPolicy"}


def test_render_writes_what_must_be_ready_and_what_moves_traffic_apart(world, tmp_path):
    out = tmp_path / "manifests"
    words = ("render", "credit", "--target", "istio", "--without", "fallback", "prediction-log", "--out", str(out))
    done = themisto(world, *words)
    files = [out / "credit-istio-1-servers.yaml", out / "credit-istio-2-traffic.yaml"]
    assert (done.returncode, done.stdout) == (0, "".join(f"{file}: credit@1\n" for file in files))
    first = [file.read_bytes() for file in files]
    assert "kind: Deployment" in first[0].decode()
    assert "kind: VirtualService" in first[1].decode()
    assert themisto(world, *words).returncode == 0
    assert [file.read_bytes() for file in files] == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("credit", "--target", "istio"), "would lose"),
        (("credti",), "There is no endpoint 'credti'"),
        (("../../etc",), "themisto:"),
        (("credit", "--publish"), "no bucket"),
    ],
)
def test_what_cannot_be_rendered_is_one_sentence(world, words, said):
    done = themisto(world, "render", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_render_without_a_control_plane_says_how_to_start_it(tmp_path, free_base):
    environment = {**os.environ, "THEMISTO_STATE": str(tmp_path), "THEMISTO_PORT": str(free_base())}
    done = subprocess.run(
        [sys.executable, "-m", "themisto_hub.cli", "render", "credit"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "themisto: The control plane does not answer. Start it: make up.\n")
