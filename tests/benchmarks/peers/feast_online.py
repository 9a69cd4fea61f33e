"""Runs in Feast's own environment: FOLDER FEATURES [CASSANDRA_PORT] -> ms of online reads, rows/s of materializing.

Asked {"what": "read", "count": n, "calls": m}: reads of n random entities, each answer as Python's own values, as
ours is. {"what": "materialize"}: the rows of `values.parquet` (`few.parquet` on Cassandra: it takes its time).
"""

import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
from asked import answer
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64

folder, features, port = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
file = folder / ("few.parquet" if port else "values.parquet")
there = pq.read_metadata(file).num_rows
entities = there
online = {"type": "sqlite", "path": str(folder / "feast-online.db")}
if port:
    online = {
        "type": "cassandra",
        "hosts": ["127.0.0.1"],
        "port": int(port[0]),
        "keyspace": "feast",
        "protocol_version": 5,
        "load_balancing": {
            "local_dc": "datacenter1",
            "load_balancing_policy": "TokenAwarePolicy(DCAwareRoundRobinPolicy)",
        },
    }
store = FeatureStore(
    config=RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / f"feast-registry{len(port)}.db"),
        offline_store={"type": "duckdb"},
        online_store=online,
        entity_key_serialization_version=3,
    )
)
who = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
view = FeatureView(
    name="values_",
    entities=[who],
    ttl=timedelta(days=3650),
    schema=[Field(name=f"f{n}", dtype=Float64) for n in range(features)],
    source=FileSource(path=str(file), timestamp_field="at"),
)
store.apply([who, view])
names = [f"values_:f{n}" for n in range(features)]


def work(said: dict) -> dict:
    if said["what"] == "materialize":
        began = time.perf_counter()
        store.materialize(datetime.now(UTC) - timedelta(days=2), datetime.now(UTC))
        return {"rows_s": there / (time.perf_counter() - began)}
    taken, bare = [], []
    for _ in range(said["calls"]):
        rows = [{"id": random.randrange(entities)} for _ in range(said["count"])]
        began = time.perf_counter()
        response = store.get_online_features(names, rows)
        bare.append(time.perf_counter() - began)
        response.to_dict()
        taken.append(time.perf_counter() - began)
    return {"ms": statistics.median(taken) * 1000, "undecoded_ms": statistics.median(bare) * 1000}


answer(work)
