"""Callers who never stop, the gateway between them and the Tritons, and what computes there."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack

import httpx
import psutil
from tests.integration.control_serving.conftest import environment, listening, process, wait_until

from themisto_hub.settings import Deployment, Keys


class Callers:
    """Three callers of `credit` who never stop; what they got, by release and status, 0 where nobody answered."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/v2/models/credit/infer"
        self._headers = {"authorization": f"Bearer {token}"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,)) for n in range(3)]
        self.got: collections.Counter[tuple[str, int]] = collections.Counter()
        self.stood_in: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    @property
    def failed(self):
        return {key: n for key, n in self.got.items() if key[1] != 200}

    def _call(self, seed):
        drawn = random.Random(seed)
        with httpx.Client(timeout=10, trust_env=False) as http:
            while not self._stop.is_set():
                x = drawn.uniform(0, 100)
                body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [x]}]}
                try:
                    answer = http.post(self._url, json=body, headers=self._headers)
                except httpx.TransportError:
                    self.got["none", 0] += 1
                    self._stop.wait(0.05)
                    continue
                release = answer.headers.get("x-release", "none")
                self.got[release, answer.status_code] += 1
                if "x-fallback" in answer.headers:
                    self.stood_in[answer.headers["x-fallback"]] += 1
                if answer.status_code == 200:
                    self._check(release, answer.json()["outputs"][0]["data"][0] / x)

    def _check(self, release, factor):
        """`credit@3` multiplies by three, the others by two: the header names what answered."""
        if abs(factor - (3 if release == "credit@3" else 2)) > 1e-3:
            self.wrong.append(f"{release} multiplied by {factor}")


class Gateway:
    """Envoy and the log's tail, started once the control plane has written the route table."""

    def __init__(self, settings: Deployment, keys: Keys, running: ExitStack) -> None:
        self._settings = settings
        self._env = environment(settings, keys, THEMISTO_GATEWAY_CALLER_PER_S="100000")
        self._running = running
        self._envoy: subprocess.Popen[bytes]

    def __call__(self) -> None:
        wait_until((self._settings.xds / "rds.json").exists, 20, "no route table")
        self._settings.folder("logs").mkdir(parents=True, exist_ok=True)
        self._start("log")
        self.start_envoy()

    def start_envoy(self) -> None:
        self._envoy = self._start("envoy")
        log = self._settings.folder("logs") / "envoy"
        wait_until(lambda: listening(self._settings.ports.gateway_http), 30, log.read_text)

    def kill_envoy(self) -> None:
        os.killpg(self._envoy.pid, signal.SIGKILL)
        self._envoy.wait(10)

    def routes(self) -> str:
        """As the control plane wrote them."""
        return (self._settings.xds / "rds.json").read_text()

    def _start(self, what: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "themisto_hub.gateway", what]
        return self._running.enter_context(process(command, self._env, self._settings.folder("logs") / what))


def backends(settings: Deployment, release: str = "") -> list[psutil.Process]:
    """Triton's processes that compute for a release (`credit--1`), or for all."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        words = " ".join(one.info["cmdline"] or [])
        if "triton_python_backend_stub" in words and str(settings.state) in words and release in words:
            found.append(one)
    return found
