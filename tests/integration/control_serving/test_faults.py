"""Two deploys at once, and disks that are full: a clear error, nothing half-done, and it works again afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
from tests.fakes.access_log import raw_line
from tests.integration.control_serving.conftest import ROOT, environment, process, wait_until
from tests.integration.gateway.reading import read

from themisto.errors import Failed
from themisto.serving.models import ReleaseRequest
from themisto.types import utcnow
from themisto_hub.gateway import tail
from themisto_hub.gateway.predictions import losses
from themisto_hub.model_server import repository
from themisto_hub.model_server.client import TritonClient

pytestmark = pytest.mark.timeout(120)
small_disk = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")


@contextlib.contextmanager
def small(folder, size):
    """`folder` is a disk of `size`, which `grow` makes larger."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield lambda more: subprocess.run(["mount", "-o", f"remount,size={more}", folder], check=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # a reader may not have closed its file yet


def test_of_two_deploys_at_once_one_is_told_that_the_other_is_on_its_way(plane, deploy):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda factor: deploy(plane, factor), [float(n) for n in range(1, 9)]))
    made = [a for a in answers if a.status_code == 201]
    told = [a for a in answers if a.status_code == 409]
    assert (len(made), len(told)) == (1, 7)
    assert all("is on its way" in a.json()["detail"] and "rollback" in a.json()["remedy"] for a in told)
    assert len(plane.call("GET", "/endpoints/credit/releases").json()) == 1
    assert len(plane.audit(action="release.create", outcome="done")) == 1


def test_the_same_deploy_twice_at_once_is_one_release(plane, deploy):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: deploy(plane, 2.0), range(4)))
    assert sorted(a.status_code for a in answers) == [200, 200, 200, 201]
    assert len({a.json()["id"] for a in answers}) == 1


@small_disk
def test_an_artifact_on_a_full_disk_is_refused_whole_and_stored_once_there_is_space(plane):
    data = os.urandom(300_000)
    folder = plane.settings.folder("control") / "artifacts"
    with small(folder, "64k") as grow:
        with pytest.raises(AssertionError, match="disk of the control plane is full"):
            plane.upload(data)
        assert list(folder.iterdir()) == []
        assert plane.audit(action="artifact.store") == []
        grow("1m")
        digest = plane.upload(data)
        assert (folder / digest).read_bytes() == data


@small_disk
def test_a_model_on_a_full_disk_fails_to_load_and_loads_once_there_is_space(settings, keys, times, new_request):
    """Triton keeps what it loads below /tmp: here a disk of one server's own, in a mount namespace."""
    release = ReleaseRequest.model_validate(new_request())
    config = repository.model_config("credit--1", "onnx", release.signature, release.serving)
    large = onnx.load_from_string(times(2.0))
    large.doc_string = "x" * 2_000_000
    state = settings.state
    state.mkdir(parents=True, exist_ok=True)
    script = """
        set -e; state=$1 checkout=$2 kept=$3; shift 3
        mount --rbind "$state" "$kept/state"; mount --rbind "$checkout" "$kept/checkout"
        mount -t tmpfs -o size=1m tmpfs /tmp
        mkdir -p "$state" "$checkout"
        mount --move "$kept/state" "$state"; mount --move "$kept/checkout" "$checkout"; cd "$checkout"; exec "$@"
    """
    kept = subprocess.run(["mktemp", "-d", "-p", "/var/tmp"], check=True, capture_output=True, text=True).stdout.strip()
    for name in ("state", "checkout"):
        (Path(kept) / name).mkdir()
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(state), str(ROOT), kept]
    command += [sys.executable, "-m", "themisto_hub.model_server", "dev"]
    settings.folder("logs").mkdir(parents=True, exist_ok=True)
    log = settings.folder("logs") / "triton-dev"
    port = settings.ports.triton["dev"][0]
    client = TritonClient(
        f"http://127.0.0.1:{port}", keys.triton_dev.get_secret_value(), keys.triton_infer_dev.get_secret_value()
    )
    with process(command, environment(settings, keys, "triton_dev", "triton_infer_dev"), log) as server:
        wait_until(client.ready, 30, log.read_text)
        files = repository.files("onnx", large.SerializeToString())
        with pytest.raises(Failed, match="the model server's disk is full"):
            client.load("credit--1", config, files)
        assert client.index() == {}
        grow = ["nsenter", "-t", str(server.pid), "-m", "mount", "-o", "remount,size=16m", "/tmp"]
        subprocess.run(grow, check=True)
        client.load("credit--1", config, files)
        assert client.infer("credit--1", {"x": [1.0]}, release.signature) == {"y": [2.0]}
        assert server.poll() is None
    for name in ("state", "checkout", ""):
        (Path(kept) / name).rmdir()  # empty here: what was bound to them was seen by the server alone


@small_disk
def test_the_prediction_log_on_a_full_disk_loses_no_line_and_is_whole_once_there_is_space(tmp_path, monkeypatch):
    monkeypatch.setattr(tail, "_AFTER_FAILURE_S", 0.05)
    parquet, stop = tmp_path / "predictions", threading.Event()
    with small(parquet, "64k") as grow:
        with contextlib.suppress(OSError):
            (parquet / "spare").write_bytes(bytes(2**17))
        now = str(utcnow().timestamp())
        line = {"time": now, "path": "/v2/models/credit/infer"}
        said = "".join(raw_line(line | {"request_id": str(number)}) for number in range(300))
        (tmp_path / "predictions.log").write_text(said)
        follower = threading.Thread(target=tail.Tail(tmp_path, rotate_s=0.0).run, args=(stop,))
        follower.start()
        try:
            wait_until(lambda: any(file.is_dir() for file in parquet.iterdir()), 20, "it has tried")
            time.sleep(0.3)
            assert read(parquet, "credit", 1000) == []
            grow("1m")
            wait_until(lambda: read(parquet, "credit", 1000), 20, "the lines in Parquet")
        finally:
            stop.set()
            follower.join(20)
        assert {row["request_id"] for row in read(parquet, "credit", 1000)} == {str(number) for number in range(300)}
        assert losses(parquet).dropped_lines == 0
