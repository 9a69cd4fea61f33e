"""Runs in Feast's own environment: FOLDER VIEWS -> {"seconds": …} of one historical retrieval."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
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
who = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
made = [
    FeatureView(
        name=f"v{n}",
        entities=[who],
        ttl=timedelta(days=3650),
        schema=[Field(name=f"f{n}_{m}", dtype=Float64) for m in range(2)],
        source=FileSource(path=str(folder / f"v{n}.parquet"), timestamp_field="at"),
    )
    for n in range(views)
]
store.apply([who, *made])
entities = pd.read_parquet(folder / "entities.parquet").rename(columns={"at": "event_timestamp"})
began = time.perf_counter()
frame = store.get_historical_features(entities, [f"v{n}:f{n}_{m}" for n in range(views) for m in range(2)]).to_df()
print(json.dumps({"seconds": time.perf_counter() - began, "rows": len(frame)}))
