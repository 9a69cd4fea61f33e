"""Runs in Feast's own environment: FOLDER VIEWS -> seconds of one historical retrieval, and the sums of its columns."""

import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from asked import answer
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Float64

folder, views = Path(sys.argv[1]), int(sys.argv[2])
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
entities = pd.read_parquet(folder / "entities.parquet").rename(columns={"at": "event_timestamp"})
kind = ValueType.INT64 if pd.api.types.is_integer_dtype(entities["id"]) else ValueType.STRING
who = Entity(name="id", join_keys=["id"], value_type=kind)
made = [
    FeatureView(
        name=f"v{n}",
        entities=[who],
        ttl=timedelta(days=7),
        schema=[Field(name=f"f{n}_{m}", dtype=Float64) for m in range(2)],
        source=FileSource(path=str(folder / f"v{n}.parquet"), timestamp_field="at", created_timestamp_column="created"),
    )
    for n in range(views)
]
store.apply([who, *made])
names = [f"v{n}:f{n}_{m}" for n in range(views) for m in range(2)]


def work(said: dict) -> dict:
    began = time.perf_counter()
    frame = store.get_historical_features(entities, names).to_df()
    taken = time.perf_counter() - began
    columns = [name.partition(":")[2] for name in names]
    return {"seconds": taken, "rows": len(frame), "sums": {c: float(frame[c].sum()) for c in columns}}


answer(work)
