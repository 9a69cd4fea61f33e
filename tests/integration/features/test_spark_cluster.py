"""A notebook joins on a standalone Spark cluster, whose executor is a process of its own, and ends: nothing stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = """
import sys
from pathlib import Path
import pandas as pd, themisto
from themisto.features.service import Features
from themisto.settings import Settings

home, engine = Path(sys.argv[1]), sys.argv[2]
at = pd.date_range("2026-03-01", periods=500, freq="min", tz="UTC")
one, other = themisto.Entity("one", keys=["a"]), themisto.Entity("other", keys=["b"])
views = [
    themisto.FeatureView(f"v{n}", entity=(one, other)[n % 2], at="at", ttl="2h", features=[f"f{n}"],
        source=pd.DataFrame({"ab"[n % 2]: [i % (7 + n) for i in range(500)], "at": at, f"f{n}": range(500)}))
    for n in range(3)
]
here = Features(Settings(url=None, home=home), None)
here.apply(*views, themisto.FeatureService("s", features=views))
spine = pd.DataFrame({"a": [i % 9 for i in range(900)], "b": [i % 11 for i in range(900)], "at": [*at, *at[:400]]})
there = Features(Settings(url=None, home=home, features_engine=engine), None)
pd.testing.assert_frame_equal(there.historical(spine, "s"), here.historical(spine, "s"))
"""


@pytest.fixture
def cluster(free_base, tmp_path, monkeypatch):
    """Master and one worker; the master's URL."""
    found = list((ROOT / ".venvs" / "spark").glob("lib/python3.*/site-packages/pyspark"))
    assert found, "PySpark is not installed: make build/ready/spark"
    monkeypatch.setenv("PYTHONPATH", str(found[0].parent))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    base = free_base()
    url = f"spark://127.0.0.1:{base}"
    run = found[0] / "bin" / "spark-class"
    at = ["--host", "127.0.0.1", "--webui-port"]
    worker = ["--port", str(base + 3), "--cores", "2", "--memory", "1g", "--work-dir", str(tmp_path / "work"), url]
    roles = [
        ["org.apache.spark.deploy.master.Master", *at, str(base + 1), "--port", str(base)],
        ["org.apache.spark.deploy.worker.Worker", *at, str(base + 2), *worker],
    ]
    log = tmp_path / "cluster.log"
    with log.open("wb") as lines:
        environment = os.environ | {"SPARK_HOME": str(found[0])}
        started = [subprocess.Popen([run, *words], stdout=lines, stderr=lines, env=environment) for words in roles]
    try:
        until = time.monotonic() + 90
        while "Registering worker" not in log.read_text() and time.monotonic() < until:
            assert all(process.poll() is None for process in started), log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def test_a_cluster_gives_duckdbs_answers_and_nothing_stays(cluster, tmp_path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-c", NOTEBOOK, str(home), f"spark+{cluster}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((tmp_path / "work").glob("app-*/0")), "no executor of the cluster worked"
    assert list((home / "spill").iterdir()) == []
    until = time.monotonic() + 60
    while subprocess.run(["pgrep", "-f", str(home)], capture_output=True, check=False).returncode == 0:
        assert time.monotonic() < until, "Java goes on without its notebook"
        time.sleep(0.1)
