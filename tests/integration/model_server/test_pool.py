"""Deployed code in a Triton of its own: it answers, and it gets nowhere else."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from tests.integration.gateway.parts import Gateway, wait_until

from themisto.errors import Failed, NotFound, Unavailable
from themisto.serving.models import Column, ServingConfig, Signature
from themisto_hub.gateway.routes import RouteTable, Target, write
from themisto_hub.model_server import pool, repository
from themisto_hub.model_server.client import TritonClient
from themisto_hub.settings import Deployment, Keys

SIGNATURE = Signature(
    inputs=(Column(name="amount", dtype="FP64"), Column(name="country", dtype="BYTES")),
    outputs=(Column(name="score", dtype="FP64"), Column(name="why", dtype="BYTES")),
)
RULE = """
def predict(frame):
    if (frame.amount < 0).any():
        raise ValueError("a negative amount")
    return {"score": frame.amount * 2, "why": frame.country.str.upper()}
"""
SPY = """
import json, os, pathlib, socket

def tried(address):
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError as error:
        return str(error)
    return "connected"

def predict(frame):
    port = int(frame.amount.iloc[0])
    seen = {
        "loopback": tried(("127.0.0.1", port)),
        "internet": tried(("1.1.1.1", 53)),
        "environment": sorted(os.environ),
        "secrets": [v for v in os.environ.values() if "key-of" in v],
        "uid": os.getuid(),
        "processes": sum(p.name.isdigit() for p in pathlib.Path("/proc").iterdir()),
        "shm": [p.name for p in pathlib.Path("/dev/shm").iterdir() if not p.name.startswith("triton_")],
    }
    return {"score": frame.amount, "why": [json.dumps(seen)] * len(frame)}
"""


def artifact(source: str, signature: Signature = SIGNATURE) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("function.py", source)
        archive.writestr("signature.json", signature.model_dump_json())
    return packed.getvalue()


def load(client: TritonClient, name: str, source: str) -> None:
    config = repository.model_config(name, "python", SIGNATURE, ServingConfig())
    client.load(name, config, repository.files("python", artifact(source)))


class Bench:
    """A pool as a process, on a state of its own."""

    def __init__(self, state: Path, port: int) -> None:
        self.settings = Deployment(state=state, port=port)
        self.keys = Keys(triton_dev=SecretStr("key-of-dev"), triton_prod=SecretStr("key-of-prod"))
        self.settings.folder("gateway").mkdir(mode=0o750, parents=True)
        self._log = state / "pool.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = os.environ | {
            "THEMISTO_STATE": str(self.settings.state),
            "THEMISTO_PORT": str(self.settings.port),
            "THEMISTO_KEY_TRITON_DEV": "key-of-dev",
            "THEMISTO_KEY_TRITON_PROD": "key-of-prod",
            "THEMISTO_TRITON": os.environ.get("THEMISTO_TRITON", str(Path(".venvs/triton").absolute())),
        }
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "themisto_hub.model_server", "pool"],
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)

    def client(self, group: str, tier: str = "dev") -> TritonClient:
        try:
            return pool.client(self.settings, self.keys, group, tier)
        except Unavailable as error:
            raise AssertionError(f"{error}\n{self._log.read_text()[-3000:]}") from None


@pytest.fixture(scope="module")
def bench(free_base) -> Iterator[Bench]:
    # Not below pytest's own folder: members have uids of their own, and every pytest that starts closes it to them.
    with tempfile.TemporaryDirectory(prefix="themisto-pool-") as name:
        state = Path(name)
        state.chmod(0o755)
        bench = Bench(state, free_base())
        bench.start()
        try:
            yield bench
        finally:
            bench.stop()


def test_function_answers_with_its_frame(bench):
    client = bench.client("data-science")
    load(client, "rule--1", RULE)
    answer = client.infer("rule--1", {"amount": [1.0, 2.5], "country": ["kr", "fr"]}, SIGNATURE)
    assert answer == {"score": [2.0, 5.0], "why": ["KR", "FR"]}
    with pytest.raises(Failed, match="ValueError: a negative amount"):
        client.infer("rule--1", {"amount": [-1.0], "country": ["kr"]}, SIGNATURE)
    client.unload("rule--1")
    with pytest.raises(NotFound):
        client.infer("rule--1", {"amount": [1.0], "country": ["kr"]}, SIGNATURE)


def test_source_that_does_not_run_is_named_when_loading(bench):
    with pytest.raises(Failed, match="nothing_like_this"):
        load(bench.client("data-science"), "broken--1", "import nothing_like_this")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="walls need root")
def test_code_gets_nowhere(bench):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = bench.client("data-science")
        load(client, "spy--1", SPY)
        inputs = {"amount": [float(listener.getsockname()[1])], "country": [""]}
        seen = json.loads(client.infer("spy--1", inputs, SIGNATURE)["why"][0])
    assert seen["loopback"] != "connected"
    assert seen["internet"] != "connected"
    assert not [name for name in seen["environment"] if "KEY" in name or "TOKEN" in name]
    assert seen["secrets"] == []
    assert seen["uid"] > 690_000
    assert seen["processes"] < 20
    assert seen["shm"] == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="walls need root")
def test_each_group_and_tier_has_a_uid_and_a_key_of_its_own(bench):
    first, second = bench.client("data-science"), bench.client("model-risk", "prod")
    folder = bench.settings.folder("pool-state")
    assert (folder / "data-science-dev").stat().st_uid != (folder / "model-risk-prod").stat().st_uid
    load(first, "rule--1", RULE)
    assert "rule--1" not in second.index()
    stranger = TritonClient(pool.address(bench.settings, "data-science", "dev")[0], "key-of-dev")
    with pytest.raises(Failed, match="restricted"):
        load(stranger, "rule--2", RULE)
    other = ["setpriv", "--reuid", "655555", "--regid", "655555", "--clear-groups", "--"]
    tried = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    path = pool.address(bench.settings, "data-science", "dev")[0].removeprefix("unix:")
    done = subprocess.run([*other, "/usr/bin/python3", "-c", tried, path], capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr


def test_killed_member_comes_back_empty(bench):
    client = bench.client("data-science")
    load(client, "rule--1", RULE)
    killed = members(bench)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: bool(members(bench)) and not set(members(bench)) & set(killed), "a new member", 20)
    client = bench.client("data-science")
    assert client.index() == {}


def test_pool_leaves_nothing_behind_when_it_is_killed(bench):
    bench.client("data-science")
    bench.stop(signal.SIGKILL)
    wait_until(lambda: not members(bench), "the end of all members", 15)
    bench.start()
    assert bench.client("data-science").ready()


def test_unwanted_member_is_stopped(bench):
    bench.client("passing")
    pool.drop(bench.settings, "passing", "dev")
    wait_until(lambda: not any("passing-dev" in c for c in commands(bench)), "its end", 15)


def test_gateway_reaches_it_by_its_sockets(bench, tmp_path_factory, free_base):
    client = bench.client("data-science")
    load(client, "rule--1", RULE)
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), free_base())
    write(RouteTable(), gateway.settings.xds)
    try:
        gateway.envoy.start(gateway.envoy_ready)
        http, grpc = pool.address(bench.settings, "data-science", "dev")
        gateway.publish(gateway.route("rule", Target(release="rule--1", weight_pct=100, http=http, grpc=grpc)))
        inputs = [
            {"name": "amount", "shape": [1, 1], "datatype": "FP64", "data": [4.0]},
            {"name": "country", "shape": [1, 1], "datatype": "BYTES", "data": ["kr"]},
        ]
        url = f"{gateway.url}/v2/models/rule/infer"
        answer = httpx.post(url, json={"inputs": inputs}, headers=gateway.headers(), timeout=10)
        assert [o["data"] for o in answer.json()["outputs"]] == [[8.0], ["KR"]]
        assert answer.headers["x-release"] == "rule@1"
    finally:
        gateway.envoy.stop()


def members(bench: Bench) -> list[int]:
    """Process ids of the data-science member's Triton."""
    return [
        pid
        for pid, command in _processes()
        if "tritonserver" in command and f"{bench.settings.state}/" in command and "data-science-dev" in command
    ]


def commands(bench: Bench) -> list[str]:
    return [command for _, command in _processes() if str(bench.settings.state) in command]


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
