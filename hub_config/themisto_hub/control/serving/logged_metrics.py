"""Logged metrics: what the prediction log itself says of each request, to compare two releases by.

`latency_ms`: of what a release answered. `errors`: 1 where the release that the shares chose failed, 0 where it
answered; what is the caller's own doing is neither. `outputs.NAME`: an output that is one number a row, as the
mean of the request's rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from themisto.errors import Invalid
from themisto.serving.models import Column, Signature
from themisto_hub.control.serving.votes import Answer

__all__ = ["is_output", "logged", "require_metric"]

_EXPOSURE = ["time", "request_id", "key", "release", "status", "fallback"]
_OUTPUT = "outputs."


def is_output(metric: str) -> bool:
    """Whether it is read from the bodies of the answers."""
    return metric.startswith(_OUTPUT)


def require_metric(metric: str, signature: Signature) -> None:
    """Raises Invalid, naming what there is."""
    known = ["latency_ms", "errors", *(f"{_OUTPUT}{column.name}" for column in signature.outputs if _is_number(column))]
    if metric not in known:
        raise Invalid(f"The log holds no metric '{metric[:100]}'.", f"There are: {', '.join(known)}.")


def logged(page: Any, metric: str, signature_of: Callable[[str], Signature | None]) -> Any:
    """A page of the log (an Arrow table) as `experiment.effect` takes it, the metric beside it; NaN: it has none.

    page: with its bodies where the metric is an output.
    """
    frame = page.select([*_EXPOSURE, "latency_ms"]).to_pandas()
    if metric == "latency_ms":
        return frame
    frame = frame[_EXPOSURE]
    if metric == "errors":
        return _errors(frame, page.to_pylist())
    return frame.assign(**{metric: frame["request_id"].map(_means(page, metric, signature_of))})


def _errors(frame: Any, lines: list[dict[str, Any]]) -> Any:
    """Each request belongs to the release that was chosen for it, whatever answered in the end."""
    failed = [_answer(line).failed for line in lines]
    chosen = [line["chosen"] or line["release"] for line in lines]
    arms = [None if bad is None else arm for arm, bad in zip(chosen, failed, strict=True)]
    errors = [float("nan") if bad is None else float(bad) for bad in failed]
    return frame.assign(release=arms, status=200, fallback=None, errors=errors)


def _answer(line: dict[str, Any]) -> Answer:
    told = {name: line[name] for name in ("time", "key", "protocol", "status", "flags", "fallback", "latency_ms")}
    return Answer(arm="stable", outputs=None, **told)


def _means(page: Any, metric: str, signature_of: Callable[[str], Signature | None]) -> Any:
    import pandas as pd

    from themisto.serving.predictions import rows

    found, name = rows(page, signature_of), metric.removeprefix(_OUTPUT)
    column = metric if metric in found.columns else name
    if column not in found.columns:
        return {}
    return pd.to_numeric(found[column], errors="coerce").groupby(found["request_id"]).mean()


def _is_number(column: Column) -> bool:
    return column.dtype != "BYTES" and column.shape == (1,) and column.logical not in ("datetime", "date", "duration")
