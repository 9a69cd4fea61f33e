"""Three Cassandra nodes, a copy on each, LOCAL_QUORUM: one is killed with -9 under a steady load, and comes back.

All three nodes and the load share the machine, so the figures are of what goes on, not of what a cluster can do.
Each read (ten entities) and write (one row) counts from when it was due, however long those before it took.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.record import Record
from tests.integration.features.cassandra.node import CassandraRing

from themisto.errors import ThemistoError
from themisto.features.models import Column
from themisto.features.online import OnlineTable, open_store

READS_S, WRITES_S, KEYS, SECONDS = 50, 20, 1_000, 20
TIMEOUT_MS = 10_000.0


def run(record: Record) -> None:
    table = OnlineTable(name="ring", columns=tuple(Column(name=f"f{n}", dtype="float64") for n in range(10)))
    row = tuple(float(n) for n in range(10))
    with TemporaryDirectory() as name, CassandraRing(Path(name), nodes=3) as ring:
        store = open_store(ring.url())
        store.ensure(table)
        store.write(table, [(f"k{n}", 1, 1, *row) for n in range(KEYS)])
        store.prepare(table)

        def read() -> None:
            store.read(table, [f"k{n}" for n in random.sample(range(KEYS), 10)])

        def write() -> None:
            now = time.time_ns() // 1000
            store.write(table, [(f"k{random.randrange(KEYS)}", now, now, *row)])

        for _ in range(3):  # while the nodes compile what they run
            _steady(read, write)
        phases = {"three": _steady(read, write)}
        threading.Timer(2.0, ring.nodes[2].kill).start()
        phases["killed"] = _steady(read, write)
        phases["two"] = _steady(read, write)
        ring.nodes[2].start()
        phases["back"] = _steady(read, write)
        store.close()
        for phase, (taken, failed) in phases.items():
            for work in ("read", "write"):
                ordered = sorted(taken[work])
                for share, of in (("p50", 0.5), ("p99", 0.99), ("slowest", 1.0)):
                    value = ordered[min(int(of * len(ordered)), len(ordered) - 1)]
                    record.add(f"ring_{phase}_{work}_{share}_ms", "ms", value, TIMEOUT_MS, "a request's deadline")
            record.add(f"ring_{phase}_failed", "requests", failed, 0, "none")


def _steady(read: Callable[[], None], write: Callable[[], None]) -> tuple[dict[str, list[float]], int]:
    """ms of each read and write begun at their rates for `SECONDS`, and how many failed."""
    taken: dict[str, list[float]] = {"read": [], "write": []}
    failed = 0

    def one(what: str, work: Callable[[], None], due: float) -> None:
        nonlocal failed
        try:
            work()
        except ThemistoError:
            failed += 1
            return
        taken[what].append((time.perf_counter() - due) * 1000)

    began = time.perf_counter()
    dues = [("read", read, n / READS_S) for n in range(READS_S * SECONDS)]
    dues += [("write", write, n / WRITES_S) for n in range(WRITES_S * SECONDS)]
    with ThreadPoolExecutor(16) as threads:
        for what, work, after in sorted(dues, key=lambda each: each[2]):
            time.sleep(max(0.0, began + after - time.perf_counter()))
            threads.submit(one, what, work, began + after)
    return taken, failed


if __name__ == "__main__":
    run(Record())
