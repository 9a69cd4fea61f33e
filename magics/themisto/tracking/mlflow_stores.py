"""MLflow's HTTP store and artifact store, calls of the run of the moment kept when they do not get through.

Imported only by `Connection`, after it has decided to speak to a server: importing it imports MLflow.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking._tracking_service import utils
from mlflow.utils.credentials import get_default_host_creds

from themisto.tracking.journal import KEPT, active

__all__ = ["install"]


class JournalStore(RestStore):
    """Runs, metrics, parameters, tags, inputs and outputs."""

    def _call_endpoint(self, api: Any, json_body: Any = None, *args: Any, **kwargs: Any) -> Any:
        send = partial(super()._call_endpoint, api, json_body, *args, **kwargs)
        if api.__name__ not in KEPT:
            return send()
        body = json.loads(json_body or "{}")
        journal = active(body.get("run_id"))
        if journal is None:
            return send()
        journal.note(api.__name__, body)

        def keep() -> Any:
            journal.box.keep({"api": api.__name__, "body": body})
            return api.Response()

        return journal.attempt(send, keep)

    def get_run(self, run_id: str) -> Any:
        send = partial(super().get_run, run_id)
        journal = active(run_id)
        return send() if journal is None else journal.attempt(send, lambda: journal.run)

    def update_run_info(self, run_id: str, run_status: Any, end_time: Any, run_name: Any) -> Any:
        info: Any = RestStore.update_run_info(self, run_id, run_status, end_time, run_name)  # type: ignore[no-untyped-call]
        return info if info.run_id else self.get_run(run_id).info


class JournalArtifacts(MlflowArtifactsRepository):
    """Files."""

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        send = partial(super().log_artifact, local_file, artifact_path)
        journal = active(self.artifact_uri.rstrip("/").removesuffix("/artifacts").rpartition("/")[2])
        if journal is None:
            send()
            return
        box = journal.box
        journal.attempt(send, lambda: box.keep_file(Path(local_file), {"api": "artifact", "path": artifact_path}))


def install() -> None:
    """Let MLflow use these for servers. MLflow's own plug-in door would open it to people who never track here."""
    registry: Any = utils._tracking_store_registry
    artifacts: Any = artifact_repository_registry._artifact_repository_registry
    if artifacts._registry["mlflow-artifacts"] is JournalArtifacts:
        return
    for scheme in ("http", "https"):
        registry.register(scheme, _build)
    registry._get_store_with_resolved_uri.cache_clear()
    artifacts.register("mlflow-artifacts", JournalArtifacts)


def _build(store_uri: str, **_: Any) -> JournalStore:
    return JournalStore(partial(get_default_host_creds, store_uri))  # type: ignore[no-untyped-call]
