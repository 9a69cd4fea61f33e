"""Features in a real Cassandra of one node: reads, the first of them, reads at a steady rate, many rows brought in.

Ours is `read_online` by a plan that was made once, as the transformer reads; at the steady rate `FeatureReads.find`,
its own way in, on its event loop and with its garbage collector settled. Feast's is
`get_online_features(…).to_dict()`, and the bare driver a prepared SELECT of tuples by key.

They take turns on the same node. A node compiles what it runs for as long as tens of thousands of keys have been read,
and takes two to four times as long meanwhile, for all sides alike: what is measured is a node that has done so, and
the first rounds are nobody's. Both sides bring the same 100,000 entities in, all of them are read, and what ours
brings in afterwards, for its rate, is a million, into a new table and then into the same again: Feast's is that of
its hundred thousand, as it takes its time. The first read is one after `FeatureReads.warm`, as a transformer starts.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import uvloop
from tests.benchmarks.online_read import FEATURES, make
from tests.benchmarks.peers.asked import answer
from tests.benchmarks.record import Record
from tests.benchmarks.turns import FEAST, OURS, Side, in_turns, median
from tests.integration.features.cassandra.node import CassandraNode

import themisto
from themisto.features.latest import latest
from themisto.features.online import OnlineStore, OnlineTable, open_store
from themisto.features.reading import plan_of, read_online
from themisto.features.resolve import resolve
from themisto.features.tiles import write_rows
from themisto_hub.gateway.feature_reads import FeatureReads
from themisto_hub.gateway.transformer import settled

ROWS, ENTITIES = 1_000_000, 100_000
ROUNDS, BROUGHT = 9, 2
COMPILING = 40  # rounds of nobody's
RATE, SECONDS = 500, 10
P99_MS = 5.0


def run(record: Record) -> None:
    with TemporaryDirectory() as name, CassandraNode(Path(name) / "node") as url:
        folder = Path(name)
        frame = make(folder, ROWS)
        frame.to_parquet(folder / "values.parquet", index=False)
        frame[:ENTITIES].to_parquet(folder / "few.parquet", index=False)
        port = str(urlsplit(url).port)
        _keyspace(int(port))
        us = [OURS, "-m", "tests.benchmarks.cassandra_read"]
        with (
            Side(*us, "ours", folder, url) as ours,
            Side(*us, "bare", folder, url) as bare,
            Side(FEAST, "tests/benchmarks/peers/feast_online.py", folder, FEATURES, port) as feast,
        ):
            ours.ask(what="materialize", file="few.parquet", version=1, first=True)
            theirs_s = feast.ask(what="materialize")["rows_s"]
            sides = {"ours": ours, "bare": bare, "feast": feast}
            for count, calls in ((1, 200), (100, 30)):
                said = {"what": "read", "count": count, "calls": calls}
                in_turns(sides, COMPILING, **said)
                found = in_turns(sides, ROUNDS, **said)
                taken = median(found["ours"], "ms")
                record.add(
                    f"cassandra_read_{count}_ms", "ms", taken, median(found["feast"], "ms"), "Feast on Cassandra"
                )
                record.add(f"cassandra_read_{count}_bare_ms", "ms", taken, median(found["bare"], "ms"), "bare driver")
            steady = [ours.ask(what="steady") for _ in range(3)]
            record.add("cassandra_read_500_s_p50_ms", "ms", median(steady, "p50_ms"), P99_MS, "the budget of p99")
            record.add("cassandra_read_500_s_p99_ms", "ms", median(steady, "p99_ms"), P99_MS, "the budget")
            record.add("cassandra_read_500_s_failed", "reads", sum(one["failed"] for one in steady), 0, "none")
            many: dict[str, Any] = {"what": "materialize", "file": "values.parquet"}
            brought = [ours.ask(**many, version=2 + n, first=True) for n in range(BROUGHT)]
            again = ours.ask(**many, version=2, first=False)
            record.add("materialize_rows_s", "rows/s", median(brought, "rows_s"), theirs_s, "Feast, higher is better")
            record.add("materialize_again_rows_s", "rows/s", again["rows_s"], theirs_s, "Feast, higher is better")
            grown = max(one["grown_mib"] for one in [*brought, again])
            record.add("materialize_grown_mib", "MiB", grown, 64.0, "the budget, from a tenth to the end")
        firsts = []
        for _ in range(5):
            with Side(*us, "ours", folder, url) as fresh:
                firsts.append(fresh.ask(what="first"))
        record.add("cassandra_first_read_ms", "ms", median(firsts, "first_ms"), median(firsts, "warm_ms"), "a warm one")


def _keyspace(port: int) -> None:
    from cassandra.cluster import Cluster

    with Cluster(["127.0.0.1"], port=port, protocol_version=5) as cluster, cluster.connect() as session:
        replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
        session.execute(f"CREATE KEYSPACE feast WITH replication = {replication}")


def main() -> None:
    side, folder, url = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    who = themisto.Entity("who", keys=["id"])
    features = {f"f{n}": "float64" for n in range(FEATURES)}
    view = themisto.FeatureView(
        "values_", entity=who, at="at", features=features, source=folder / "few.parquet"
    ).with_version(1)
    spec = resolve(themisto.FeatureService("all", features=["values_"]), lambda _: view, version=1)
    plan, table = plan_of(spec), OnlineTable.of(view, spec.group)
    store = open_store(url)
    book = SimpleNamespace(value=SimpleNamespace(services=[spec]))
    reads = FeatureReads(store, book)  # type: ignore[arg-type]  # asked for nothing else

    def bare() -> Callable[[list[dict[str, int]]], Any]:
        names = ", ".join(["key_", "at_", "seq_", *features])
        one = store._session.prepare(f'SELECT {names} FROM "{table.name}" WHERE key_ = ? LIMIT 1')
        many = store._session.prepare(f'SELECT {names} FROM "{table.name}" WHERE key_ IN ? PER PARTITION LIMIT 1')
        many.fetch_size = None

        def read(entities: list[dict[str, int]]) -> Any:
            keys = [str(e["id"]) for e in entities]
            if len(keys) == 1:
                return store._session.execute(one, keys).one()
            return {row[0]: row for row in store._session.execute(many, (keys,))}

        return read

    def work(said: dict[str, Any]) -> dict[str, Any]:
        if said["what"] == "materialize":
            of = view.with_version(said["version"])
            return _materialize(store, of, OnlineTable.of(of, spec.group), folder / said["file"], first=said["first"])
        if said["what"] == "steady":
            reads.warm()
            with settled(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_steady(lambda: reads.find(spec, _some(1))))
        read = bare() if side == "bare" else lambda entities: read_online(store, spec, entities, plan=plan)
        if said["what"] == "first":
            reads.warm()
            first = _taken(read, _some(1))
            return {"first_ms": first, "warm_ms": statistics.median(_taken(read, _some(1)) for _ in range(200))}
        return {"ms": statistics.median(_taken(read, _some(said["count"])) for _ in range(said["calls"]))}

    answer(work)


def _some(count: int) -> list[dict[str, int]]:
    return [{"id": random.randrange(ENTITIES)} for _ in range(count)]


def _taken(read: Callable[[list[dict[str, int]]], Any], entities: list[dict[str, int]]) -> float:
    began = time.perf_counter()
    read(entities)
    return (time.perf_counter() - began) * 1000


def _materialize(
    store: OnlineStore, view: themisto.FeatureView, table: OnlineTable, file: Path, *, first: bool
) -> dict[str, Any]:
    """Rows a second, and how much memory grew from the first tenth to the end."""
    store.ensure(table)
    began, done, early = time.perf_counter(), 0, 0.0
    with latest(view, file, written_at=datetime.now(UTC), first=first) as found:
        for batch, new in found.rows():
            done += write_rows(store, table, batch, new=new)
            if not early and done >= ROWS // 10:
                early = _resident_mib()
        return {"rows_s": done / (time.perf_counter() - began), "grown_mib": _resident_mib() - early}


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


async def _steady(read: Callable[[], Any]) -> dict[str, Any]:
    """Reads begun at a fixed rate, however long those before them take; each counted from when it was due."""
    taken: list[float] = []
    failed = 0

    async def one(due: float) -> None:
        nonlocal failed
        try:
            await read()
        except themisto.errors.ThemistoError:
            failed += 1
            return
        taken.append((time.perf_counter() - due) * 1000)

    began, jobs = time.perf_counter(), []
    for number in range(RATE * SECONDS):
        due = began + number / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        jobs.append(asyncio.create_task(one(due)))
    await asyncio.gather(*jobs)
    taken = sorted(taken[RATE:])  # the first second is for warming up
    return {
        "p50_ms": taken[len(taken) // 2],
        "p99_ms": taken[int(0.99 * len(taken))],
        "per_s": len(jobs) / (time.perf_counter() - began),
        "failed": failed,
    }


if __name__ == "__main__":
    main()
