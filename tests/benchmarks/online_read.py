"""Online reads of 10 features of 1 and of 100 entities: ours beside Feast, both the call in the process of the store.

Ours is `read_online` by a plan that was made once, as the transformer reads for each prediction; Feast's is
`get_online_features(…).to_dict()`. Both answer with Python's own values. `online_get_…` is all that `%features get`
does on one machine: the book of definitions looked after too, and values made ready for people. They take turns.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from tests.benchmarks.peers.asked import answer
from tests.benchmarks.record import Record
from tests.benchmarks.turns import FEAST, OURS, Side, in_turns, median

import themisto
from themisto.features.reading import plan_of, read_online
from themisto.features.service import Features
from themisto.settings import Settings

ENTITIES, FEATURES = 20_000, 10
ROUNDS = 9


def run(record: Record) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, ENTITIES).to_parquet(folder / "values.parquet", index=False)
        with (
            Side(OURS, "-m", "tests.benchmarks.online_read", folder) as ours,
            Side(FEAST, "tests/benchmarks/peers/feast_online.py", folder, FEATURES) as feast,
        ):
            feast.ask(what="materialize")
            for count, calls in ((1, 300), (100, 60)):
                said = {"what": "read", "count": count, "calls": calls}
                in_turns({"ours": ours, "feast": feast}, 1, **said)
                found = in_turns({"ours": ours, "feast": feast}, ROUNDS, **said)
                theirs = median(found["feast"], "ms")
                record.add(f"online_read_{count}_ms", "ms", median(found["ours"], "ms"), theirs, "Feast on SQLite")
                record.add(f"online_get_{count}_ms", "ms", median(found["ours"], "get_ms"), theirs, "Feast on SQLite")


def make(folder: Path, entities: int) -> pd.DataFrame:
    random = np.random.default_rng(7)
    at = pd.Timestamp.now(tz="UTC").floor("s") - pd.Timedelta("1h")
    values = {f"f{n}": random.normal(size=entities) for n in range(FEATURES)}
    return pd.DataFrame({"id": range(entities), "at": at} | values)


def main() -> None:
    folder = Path(sys.argv[1])
    service = Features(Settings(url=None, home=folder / "home"), None)
    who = themisto.Entity("who", keys=["id"])
    view = themisto.FeatureView(
        "values_", entity=who, at="at", features=[f"f{n}" for n in range(FEATURES)], source=folder / "values.parquet"
    )
    service.apply(who, view, themisto.FeatureService("all", features=["values_"]))
    service.materialize("values_")
    store, spec = service.registry._store, service.registry.service("all@1")
    plan = plan_of(spec)
    random = np.random.default_rng()

    def work(said: dict[str, Any]) -> dict[str, Any]:
        wanted = [[{"id": int(n)} for n in random.integers(0, ENTITIES, said["count"])] for _ in range(said["calls"])]
        return {
            "ms": _median_ms(lambda entities: read_online(store, spec, entities, plan=plan), wanted),
            "get_ms": _median_ms(lambda entities: service.registry.read("all@1", entities), wanted),
        }

    answer(work)


def _median_ms(read: Callable[[list[dict[str, int]]], Any], wanted: list[list[dict[str, int]]]) -> float:
    taken = []
    for entities in wanted:
        began = time.perf_counter()
        found = read(entities)
        taken.append(time.perf_counter() - began)
        assert None not in found.rows[0]
    return statistics.median(taken) * 1000


if __name__ == "__main__":
    main()
