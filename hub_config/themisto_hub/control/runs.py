"""Recent runs, read from the tracking server with the caller's own token."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

from themisto.client import map_httpx_errors
from themisto.errors import Unavailable
from themisto.types import Model, UtcTime
from themisto_hub.settings import Deployment

__all__ = ["RecentRun", "recent_runs"]


class RecentRun(Model):
    """An MLflow run, as the panel lists it."""

    run_id: str
    name: str
    experiment: str
    group: str
    status: str
    user: str
    started_at: UtcTime
    url: str


def recent_runs(settings: Deployment, token: str, groups: tuple[str, ...], limit: int) -> list[RecentRun]:
    """The newest runs of the caller's groups, newest first."""
    base = f"http://127.0.0.1:{settings.ports.tracking}/services/tracking"
    headers = {"Authorization": f"Bearer {token}"}
    with map_httpx_errors("tracking server"), httpx.Client(base_url=base, headers=headers, timeout=10) as http:
        found = [run for group in groups for run in _runs_of(http, group, limit, settings.tracking_url)]
    return sorted(found, key=lambda run: run.started_at, reverse=True)[:limit]


def _runs_of(http: httpx.Client, group: str, limit: int, public: str) -> Iterator[RecentRun]:
    names = {e["experiment_id"]: e["name"] for e in _post(http, "experiments/search", group, max_results=200)}
    if not names:
        return
    order = ["attributes.start_time DESC"]
    ids = list(names)
    for run in _post(http, "runs/search", group, experiment_ids=ids, max_results=limit, order_by=order):
        info = run["info"]
        tags = {t["key"]: t["value"] for t in run.get("data", {}).get("tags", [])}
        yield RecentRun(
            run_id=info["run_id"],
            name=info.get("run_name") or info["run_id"][:8],
            experiment=names.get(info["experiment_id"], ""),
            group=group,
            status=info["status"].lower(),
            user=tags.get("mlflow.user") or info.get("user_id") or "",
            started_at=datetime.fromtimestamp(int(info["start_time"]) / 1000, UTC),
            url=f"{public}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}?workspace={group}",
        )


def _post(http: httpx.Client, what: str, group: str, **body: Any) -> list[dict[str, Any]]:
    response = http.post(f"/api/2.0/mlflow/{what}", json=body, headers={"X-MLFLOW-WORKSPACE": group})
    if response.status_code in (401, 403, 404):  # a workspace that nobody has used yet
        return []
    if response.status_code >= 400:
        raise Unavailable(f"The tracking server answered HTTP {response.status_code}.", "Try again in a moment.")
    rows: list[dict[str, Any]] = response.json().get(what.partition("/")[0], [])
    return rows
