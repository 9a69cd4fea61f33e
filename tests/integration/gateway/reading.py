"""What the prediction log wrote, as tests read it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from themisto_hub.gateway.predictions import ADDED

__all__ = ["read"]

_NEWEST = """
    SELECT * REPLACE (epoch_us(time) AS time) FROM read_parquet(?, union_by_name => true)
    WHERE endpoint = ? ORDER BY time DESC LIMIT ?
"""


def read(folder: Path, endpoint: str, limit: int = 20) -> list[dict[str, Any]]:
    """The newest predictions of an endpoint, newest first; `folder` is `state/gateway/predictions`.

    Keys: time, request_id, caller, endpoint, release, chosen, shadow, fallback, key, entity, protocol, path,
    status, latency_ms, flags, feature_age_s, trace_id; `inputs` and `outputs` as name to values, or None.
    What a file of before lacks is None; its rows are no shadow's.
    """
    found: list[dict[str, Any]] = []
    hours = sorted((h for h in folder.iterdir() if h.is_dir()), reverse=True) if folder.is_dir() else []
    with duckdb.connect(":memory:") as connection:
        for hour in hours:
            files = [str(f) for f in hour.glob("*.parquet") if not f.name.startswith(".")]
            if not files:
                continue
            answer = connection.execute(_NEWEST, [files, endpoint, limit - len(found)])
            names = [column[0] for column in answer.description or ()]
            found += [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            if len(found) >= limit:
                break
    for row in found:
        for side in ("inputs", "outputs"):
            row[side] = json.loads(row[side]) if row[side] else None
        row.update({name: row.get(name) for name in ADDED} | {"shadow": bool(row.get("shadow"))})
        row["time"] = datetime.fromtimestamp(row["time"] / 1e6, UTC)
    return found
