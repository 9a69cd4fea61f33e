"""Registering: the MLflow model version of a release, made once for each content."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd

from themisto.serving.models import ReleaseRequest

if TYPE_CHECKING:
    from themisto.serving.candidate import Candidate
    from themisto.tracking.models import Lineage
    from themisto.tracking.service import Tracking

__all__ = ["register"]

_CONTENT = "themisto.content"


def register(
    tracking: Tracking,
    model: Any,
    candidate: Candidate,
    request: ReleaseRequest,
    *,
    name: str,
    lineage: Lineage | None,
) -> tuple[str, bool]:
    """`models:/<name>/<version>` for what `request` holds, and whether it was there already.

    The version carries the content's hash as a tag, so that the same command finds it again. Raises
    Unavailable when the tracking server does not answer.
    """
    content = request.content_hash
    known = _known(tracking, name, content)
    if known is not None:
        return known, True
    from themisto.serving.frame import to_frame
    from themisto.tracking.flavors import flavor_of

    logged = model if flavor_of(model) is not None else _as_logged(candidate)
    tags = {
        _CONTENT: content,
        "themisto.artifact_sha256": request.artifact.sha256,
        "themisto.tier": request.tier,
        **({"themisto.feature_service": request.feature_service} if request.feature_service else {}),
    }
    sample = candidate.frame.head(100)
    head = {n: array[: len(sample)] for n, array in candidate.expected.items()}
    outputs = to_frame(head, sample.index, candidate.export.signature.outputs)
    with warnings.catch_warnings(record=True):  # hints to who calls MLflow, which is us; it undoes plain filters
        version = tracking.log_version(
            name, logged, signature_df=_plain(sample), outputs=_plain(outputs), tags=tags, lineage=lineage
        )
    return version, False


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """As MLflow's signatures can say it: they know times without a zone, no dates and durations,
    and integers only where none is missing."""
    from themisto.serving.frame import columns_of

    scalar = frame[[c for c in frame.columns if not frame[c].map(lambda v: isinstance(v, list)).any()]]
    found = frame.copy()
    for column in columns_of(scalar):
        values = frame[column.name]
        if column.logical in ("integer", "boolean"):
            found[column.name] = values.astype("Float64").to_numpy(dtype=float, na_value=float("nan"))
        elif column.logical == "duration":
            found[column.name] = values.dt.total_seconds()
        elif column.logical == "date":
            found[column.name] = pd.to_datetime(values)
        elif column.logical == "datetime" and column.zone:
            found[column.name] = pd.to_datetime(values, utc=True).dt.tz_localize(None)
    return found


def _known(tracking: Tracking, name: str, content: str) -> str | None:
    from themisto.tracking.connection import mlflow_errors

    with mlflow_errors():
        found = tracking.connection.client.search_model_versions(
            f"name = '{name}' AND tags.`{_CONTENT}` = '{content}'", max_results=1
        )
    return f"models:/{name}/{found[0].version}" if found else None


def _as_logged(candidate: Candidate) -> Any:
    """For models MLflow has no flavor for: what will be served, as a graph or as a function that runs it."""
    export = candidate.export
    if export.kind == "onnx":
        import onnx

        return onnx.load_model_from_string(export.data)

    def served(df: Any) -> Any:
        from themisto.serving.frame import tensors, to_frame
        from themisto.serving.runner import run

        answers = run(export, tensors(df, export.signature.inputs))
        return to_frame(answers, df.index, export.signature.outputs)

    return served
