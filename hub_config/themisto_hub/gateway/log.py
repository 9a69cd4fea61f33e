"""`python -m themisto_hub.gateway log`: the prediction log's writer, off the request's path; and its reader."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from themisto_hub.gateway.bootstrap import GatewaySettings
from themisto_hub.gateway.personal import DECLARED, Veil
from themisto_hub.gateway.predictions import ADDED
from themisto_hub.gateway.tail import FOLDER, Tail
from themisto_hub.settings import Deployment, Keys

__all__ = ["FOLDER", "Tail", "main", "read"]

_NEWEST = """
    SELECT * REPLACE (epoch_us(time) AS time) FROM read_parquet(?, union_by_name => true)
    WHERE endpoint = ? ORDER BY time DESC LIMIT ?
"""


def main() -> int:
    """Tail until SIGTERM; what was read is written before it ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    os.umask(0o027)  # the control plane reads the Parquet files as a member of the gateway's group
    limits = GatewaySettings()
    settings, keys = Deployment(), Keys()
    tail = Tail(
        settings.folder("gateway"),
        limits.rotate_bytes,
        timedelta(days=limits.keep_days),
        rotate_s=limits.rotate_s,
        backlog_bytes=limits.backlog_bytes,
        veil=Veil(keys.log_hash, keys.log_encrypt),
        declared=settings.xds / DECLARED,
    )
    tail.run(stop)
    return 0


def read(folder: Path, endpoint: str, limit: int = 20) -> list[dict[str, Any]]:
    """The newest predictions of an endpoint, newest first; `folder` is `state/gateway/predictions`.

    Keys: time, request_id, caller, endpoint, release, chosen, shadow, fallback, key, entity, protocol, path,
    status, latency_ms, flags, feature_age_s, trace_id; `inputs` and `outputs` as name to values, or None.
    What a file of before lacks is None; its rows are no shadow's.
    """
    import duckdb

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
