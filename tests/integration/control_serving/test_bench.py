"""A bench, for real: a Triton of its own in the pool, perf_analyzer against it, and nothing left afterwards."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from tests.integration.control_serving.conftest import ROOT, environment, process, wait_until

from themisto_hub.settings import Deployment

GRID = {"seconds": 5, "queue_delays_us": [0], "instances": [1, 2], "concurrencies": [1, 4]}


@pytest.fixture
def settings(free_base):
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:  # short for its sockets
        state = Path(folder)
        state.chmod(0o755)
        yield Deployment(state=state, port=free_base())


@pytest.fixture
def pooled(settings, keys, plane, monkeypatch):
    """The control plane with a pool beside it."""
    if not (ROOT / ".venvs" / "triton" / "bin" / "python").exists() and "THEMISTO_TRITON" not in os.environ:
        pytest.skip("the model server is not installed: make setup")
    triton = os.environ.get("THEMISTO_TRITON", str(ROOT / ".venvs" / "triton"))
    monkeypatch.setenv("THEMISTO_TRITON", triton)
    for folder in ("gateway", "pool"):
        settings.folder(folder).mkdir(mode=0o750)
    env = environment(settings, keys, "triton_dev", "triton_prod", THEMISTO_TRITON=triton)
    log = settings.folder("gateway") / "pool.log"
    with process([sys.executable, "-m", "themisto_hub.model_server", "pool"], env, log):
        yield plane
        plane.control.serving.benches.close()


def ended(plane, bench):
    path = f"/endpoints/credit/benches/{bench['id']}"
    wait_until(lambda: plane.call("GET", path).json()["state"] != "running", 90, lambda: plane.call("GET", path).text)
    return plane.call("GET", path).json()


def test_every_point_of_the_grid_is_measured_and_nothing_is_left(pooled, deploy, settings):
    assert deploy(pooled, 2.0).status_code == 201
    body = {**GRID, "release": 1}
    bench = pooled.call("POST", "/endpoints/credit/benches", json=body).json()
    assert (bench["state"], bench["expected"]) == ("running", 4)
    second = pooled.call("POST", "/endpoints/credit/benches", json=body)
    assert second.status_code == 409
    assert "A bench of 'credit' by scientist runs" in second.json()["detail"]
    found = ended(pooled, bench)
    assert found["state"] == "done", found["message"]
    measured = {(p["instances"], p["concurrency"]) for p in found["points"]}
    assert measured == {(1, 1), (1, 4), (2, 1), (2, 4)}
    assert all(p["requests_per_s"] > 0 and 0 < p["p50_ms"] <= p["p99_ms"] for p in found["points"])
    assert list(settings.folder("pool").glob("*.json")) == []
    event = pooled.audit(action="bench.start")[0]
    assert (event.object, event.after["points"]) == ("release/credit@1", 4)


def test_a_model_server_that_stalls_now_and_then_is_measured_all_the_same(pooled, deploy):
    assert deploy(pooled, 2.0).status_code == 201
    body = {**GRID, "instances": [1], "concurrencies": [64], "queue_delays_us": [None], "release": 1}
    bench = pooled.call("POST", "/endpoints/credit/benches", json=body).json()
    path = f"/endpoints/credit/benches/{bench['id']}"
    wait_until(lambda: "at a time" in pooled.call("GET", path).json()["message"], 60, "it is never measured")
    over = threading.Event()
    stalls = threading.Thread(target=_stalling, args=(over,))
    stalls.start()
    try:
        found = ended(pooled, bench)
    finally:
        over.set()
        stalls.join()
    assert found["state"] == "done", found["message"]
    assert found["points"][0]["p99_ms"] > found["points"][0]["p50_ms"]


def _stalling(over: threading.Event) -> None:
    """Of three windows of a measurement (5 s) one has requests that take over a second, and one has none."""
    server = next(p for p in psutil.Process().children(recursive=True) if p.name() == "tritonserver")
    while not over.is_set():
        server.suspend()
        time.sleep(1.2)
        server.resume()
        over.wait(3.4)


def test_a_bench_that_is_cancelled_ends_at_once(pooled, deploy, settings):
    deploy(pooled, 2.0)
    body = {**GRID, "seconds": 600, "release": 1}
    bench = pooled.call("POST", "/endpoints/credit/benches", json=body).json()
    assert pooled.call("DELETE", f"/endpoints/credit/benches/{bench['id']}").status_code == 200
    assert ended(pooled, bench)["state"] == "cancelled"
    assert [e.after["bench"] for e in pooled.audit(action="bench.cancel")] == [bench["id"]]
    wait_until(lambda: not list(settings.folder("pool").glob("*.json")), 20, "the pool is asked for nothing")


def test_what_a_killed_control_plane_left_running_is_swept(plane, settings):
    settings.folder("pool").mkdir()
    (settings.folder("pool") / "data-science-bench.json").write_text("{}")
    (settings.folder("pool") / "data-science-dev.json").write_text("{}")
    plane.control.serving.benches.sweep()
    assert [f.name for f in settings.folder("pool").iterdir()] == ["data-science-dev.json"]
