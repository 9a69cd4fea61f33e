"""What a person waits for: the hub, her Lab, her deploy."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import nbformat
from tests.benchmarks.record import Record

from themisto_hub.browser import Browser, Form
from themisto_hub.supervisor.up import node_binary, root_folder
from themisto_hub.tour.house import House
from themisto_hub.tour.people import People

MODEL = """
import numpy as np, pandas as pd, lightgbm as lgb
rng = np.random.default_rng(7)
X = pd.DataFrame({f"f{n}": rng.normal(size=2000) for n in range(10)})
y = (X.f0 + X.f1 > 0).astype(int)
model = lgb.LGBMClassifier(n_estimators=100, verbose=-1).fit(X, y)
other = lgb.LGBMClassifier(n_estimators=90, verbose=-1).fit(X, y)
third = lgb.LGBMClassifier(n_estimators=80, verbose=-1).fit(X, y)
"""
PEER_DEPLOY = """
import mlflow, mlflow.lightgbm, subprocess, sys, time, httpx, os, tempfile, socket
began = time.perf_counter()
folder = tempfile.mkdtemp()
mlflow.lightgbm.save_model(other, folder + "/model", input_example=X.head(3), pip_requirements=["lightgbm"])
with socket.socket() as s:
    s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", folder + "/model", "-p", str(port)]
command += ["--env-manager", "local"]
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
while True:
    try:
        body = {"dataframe_split": X.head(1).to_dict("split")}
        if httpx.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=5).status_code == 200: break
    except httpx.TransportError: pass
    time.sleep(0.05)
print("seconds", time.perf_counter() - began)
import signal; os.killpg(server.pid, signal.SIGTERM)
"""


def run(record: Record) -> None:
    plain_start, plain_lab = plain_hub()
    with TemporaryDirectory() as folder:
        house = House(Path(folder) / "state")
        Path(folder).chmod(0o755)
        try:
            told = house.start()
            hub = next(line for line in told if line.startswith("hub ready after"))
            record.add("hub_start_s", "s", float(hub.split()[3]), plain_start, "plain JupyterHub, dummy login")
            with_house(record, house, plain_lab)
        finally:
            house.stop()


def with_house(record: Record, house: House, plain_lab: float) -> None:
    person = People(house).first
    person.log_in()
    began = time.perf_counter()
    person.ensure_server("cpu-small")
    record.add(
        "lab_ready_s", "s", time.perf_counter() - began, plain_lab, "plain JupyterHub, SimpleLocalProcessSpawner"
    )
    person.upload("bench.ipynb", nbformat.v4.new_notebook())
    kernel = person.kernel("bench.ipynb")

    def cell(source: str) -> str:
        outputs, _, failed = kernel.run(source, "bench")
        text = "".join(o.get("text", "") for o in outputs)
        if failed:
            raise RuntimeError(text + str([o.get("evalue") for o in outputs]))
        return text

    cell(MODEL)
    cell("%%deploy bench --sample X --replace\nmodel")
    cell("%%deploy bench --sample X --replace\nthird")  # warm
    cell("import time, themisto\nbegan = time.perf_counter()")
    cell("%%deploy bench --sample X --canary 50\nother")
    ours = cell(
        "answered = set()\n"
        "while 'bench@3' not in answered:\n"
        "    answered.add(themisto.endpoint('bench').predict(X.head(1)).attrs['release'])\n"
        "print('seconds', time.perf_counter() - began)"
    )
    record.add("deploy_s", "s", _seconds(ours), _seconds(cell(PEER_DEPLOY)), "mlflow models serve, to its first answer")


def _seconds(text: str) -> float:
    found = re.search(r"seconds ([\d.]+)", text)
    assert found, text
    return float(found.group(1))


def plain_hub() -> tuple[float, float]:
    """Seconds to start a plain JupyterHub, and from the start click to Lab there."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        proxy = root_folder() / "hub_config/idp/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
        environment = {**os.environ, "BENCH_PROXY": f"{node_binary()} {proxy}", "BENCH_PORT": "17900"}
        config = Path("tests/benchmarks/peers/plain_hub.py").absolute()
        began = time.perf_counter()
        hub = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(config)],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = "http://127.0.0.1:17900"
            while not _up(f"{url}/hub/health"):
                assert time.perf_counter() - began < 60, "the plain hub does not start"
                time.sleep(0.05)
            started = time.perf_counter() - began
            with _Plain(url) as browser:
                browser.login("anybody", "anything")
                began = time.perf_counter()
                assert browser.open("/hub/spawn/anybody").status_code == 200
                while not browser.server().get("ready"):
                    assert time.perf_counter() - began < 60, "the plain server does not start"
                    time.sleep(0.1)
                return started, time.perf_counter() - began
        finally:
            hub.terminate()
            hub.wait(30)


class _Plain(Browser):
    """A browser at a hub with its own login form."""

    def login(self, user: str, password: str) -> "_Plain":
        page = self.open("/hub/login")
        form = Form(page.text)
        data = {**form.fields, "username": user, "password": password}
        self._follow("POST", f"{self.url}/hub/login?next=%2Fhub%2Fhome", data=data)
        self.user = user
        return self


def _up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
