"""Runs in Feast's own environment: FOLDER FEATURES -> median ms of an online read of 1 and of 100 entities."""

import json
import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64

folder, features = Path(sys.argv[1]), int(sys.argv[2])
store = FeatureStore(
    config=RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "feast-registry.db"),
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": str(folder / "feast-online.db")},
        entity_key_serialization_version=3,
    )
)
who = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
view = FeatureView(
    name="values_",
    entities=[who],
    ttl=timedelta(days=3650),
    schema=[Field(name=f"f{n}", dtype=Float64) for n in range(features)],
    source=FileSource(path=str(folder / "values.parquet"), timestamp_field="at"),
)
store.apply([who, view])
store.materialize(datetime.now(UTC) - timedelta(days=1), datetime.now(UTC))
names = [f"values_:f{n}" for n in range(features)]
found = {}
for count, calls in ((1, 300), (100, 60)):
    taken = []
    for _ in range(calls):
        rows = [{"id": random.randrange(20_000)} for _ in range(count)]
        began = time.perf_counter()
        store.get_online_features(names, rows)
        taken.append(time.perf_counter() - began)
    found[count] = statistics.median(taken[10:]) * 1000
print(json.dumps(found))
