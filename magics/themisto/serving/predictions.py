"""Predictions: requests of the prediction log as rows of a DataFrame, one for each row that was predicted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pandas as pd

from themisto.serving.models import Signature

__all__ = ["FACTS", "rows"]

FACTS = (
    "time",
    "request_id",
    "row",
    "key",
    "caller",
    "release",
    "shadow",
    "fallback",
    "status",
    "latency_ms",
    "feature_age_s",
    "trace_id",
    "error",
)
"""Columns that every frame of the log begins with; inputs, outputs and the label follow."""

_EVERY_ROW = "*"


def rows(log: Any, signature_of: Callable[[str], Signature | None]) -> pd.DataFrame:
    """A page or more of the log (an Arrow table) as a frame: a request with n rows becomes n rows, numbered `row`.

    log: columns as the gateway writes them, `inputs` and `outputs` as JSON (name to flat values), and
        `labels` (JSON, row number or `*` to label) where they were joined.
    signature_of: `credit@7` to its signature, which says how many values of a column make a row.

    Columns: FACTS, each input and each output under its own name, `label`. A name that two of them claim
    becomes `inputs.NAME` or `outputs.NAME`. A value that is not in the log (the body was too large to
    be kept, the request was refused) is missing.
    """
    requests = [_Request(record, signature_of) for record in log.to_pylist()]
    counts = np.array([r.count for r in requests], dtype=int)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    total = int(starts[-1])
    frame: dict[str, Any] = {}
    for fact in FACTS:
        if fact == "row":
            frame[fact] = np.arange(total) - np.repeat(starts[:-1], counts)
        elif fact == "shadow":
            frame[fact] = np.repeat(np.array([bool(r.facts.get(fact)) for r in requests], dtype=bool), counts)
        else:
            frame[fact] = _repeated([r.facts.get(fact) for r in requests], counts, fact)
    sides = {
        "inputs": _columns([r.inputs for r in requests], starts, total),
        "outputs": _columns([r.outputs for r in requests], starts, total),
    }
    frame |= _named(sides)
    if "labels" in log.column_names:
        frame["label"] = _column([r.labels for r in requests], starts, total)
    return pd.DataFrame(frame)


class _Request:
    """One line of the log, taken apart."""

    def __init__(self, record: Mapping[str, Any], signature_of: Callable[[str], Signature | None]) -> None:
        self.facts = dict(record)
        inputs, outputs = _read(record.get("inputs")), _read(record.get("outputs"))
        error = outputs.pop("error", None) if isinstance(outputs.get("error"), str) else None
        self.facts["error"] = error
        signature = signature_of(str(record["release"])) if record.get("release") else None
        columns = (*signature.inputs, *signature.outputs) if signature else ()
        widths = {column.name: prod(column.shape) for column in columns}
        self.count = _count(inputs, outputs, widths)
        self.inputs = {name: _split(values, self.count) for name, values in inputs.items()}
        self.outputs = {name: _split(values, self.count) for name, values in outputs.items()}
        given = _read(record.get("labels"))
        every = given.get(_EVERY_ROW)
        self.labels = [given.get(str(row), every) for row in range(self.count)]


def _read(text: str | None) -> dict[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _count(inputs: Mapping[str, Any], outputs: Mapping[str, Any], widths: Mapping[str, int]) -> int:
    """Rows of a request: by a column whose width is signed; else by its shortest column, which is a row's width 1."""
    both = {**inputs, **outputs}
    signed = [len(v) // widths[name] for name, v in both.items() if isinstance(v, list) and widths.get(name)]
    if signed:
        return max(1, *signed)
    return max(1, min((len(v) for v in both.values() if isinstance(v, list) and v), default=1))


def _split(values: Any, count: int) -> list[Any]:
    """The flat values of a column, row by row; a list of them where a row has several."""
    if not isinstance(values, list) or not values or len(values) % count:
        return [None] * count
    width = len(values) // count
    return values if width == 1 else [values[at : at + width] for at in range(0, len(values), width)]


def _repeated(values: Sequence[Any], counts: np.ndarray[Any, Any], fact: str) -> Any:
    times = list(counts)
    if fact == "time":
        return pd.Series(pd.to_datetime(list(values), utc=True)).repeat(times).reset_index(drop=True)
    kind = "float64" if fact in ("latency_ms", "feature_age_s") else "Int64" if fact == "status" else "object"
    return pd.Series(list(values), dtype=kind).repeat(times).reset_index(drop=True)


def _columns(
    sides: Sequence[Mapping[str, list[Any]]], starts: np.ndarray[Any, Any], total: int
) -> dict[str, pd.Series[Any]]:
    names = dict.fromkeys(name for side in sides for name in side)
    return {name: _column([side.get(name, ()) for side in sides], starts, total) for name in names}


def _column(values: Iterable[Sequence[Any]], starts: np.ndarray[Any, Any], total: int) -> pd.Series[Any]:
    flat: list[Any] = [None] * total
    for start, some in zip(starts, values, strict=False):
        flat[start : start + len(some)] = some
    return pd.Series(flat, dtype=None if any(v is not None for v in flat) else "object")


def _named(sides: Mapping[str, Mapping[str, pd.Series[Any]]]) -> dict[str, pd.Series[Any]]:
    taken = {*FACTS, "label"}
    shared = set(sides["inputs"]) & set(sides["outputs"])
    return {
        f"{side}.{name}" if name in taken | shared else name: values
        for side, columns in sides.items()
        for name, values in columns.items()
    }
