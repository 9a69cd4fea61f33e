"""Online reads of 10 features from SQLite, 1 and 100 entities: ours beside Feast, the library call in both."""

import json
import statistics
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from tests.benchmarks.record import Record

import themisto
from themisto.features.service import Features
from themisto.settings import Settings

ENTITIES, FEATURES = 20_000, 10


def run(record: Record) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(7)
        at = pd.Timestamp.now(tz="UTC").floor("s") - pd.Timedelta("1h")
        frame = pd.DataFrame({"id": range(ENTITIES), "at": at})
        for n in range(FEATURES):
            frame[f"f{n}"] = random.normal(size=ENTITIES)
        frame.to_parquet(folder / "values.parquet")
        service = Features(Settings(url=None, home=folder / "home"), None)
        who = themisto.Entity("who", keys=["id"])
        view = themisto.FeatureView(
            "values_", entity=who, at="at", features=[f"f{n}" for n in range(FEATURES)], source=frame
        )
        service.apply(who, view, themisto.FeatureService("all", features=["values_"]))
        service.materialize("values_")
        command = [".venvs/feast/bin/python", "tests/benchmarks/peers/feast_online.py", str(folder), str(FEATURES)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
        peer = json.loads(done.stdout.splitlines()[-1])
        for count in (1, 100):
            taken = _ours(service, count, random)
            record.add(f"online_read_{count}_ms", "ms", taken, peer[str(count)], "Feast on SQLite")


def _ours(service: Features, count: int, random: np.random.Generator, calls: int = 300) -> float:
    taken = []
    for _ in range(calls):
        wanted = [{"id": int(n)} for n in random.integers(0, ENTITIES, count)]
        began = time.perf_counter()
        service.registry.read("all@1", wanted)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[20:]) * 1000
