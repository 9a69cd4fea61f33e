"""Shadow: what a release that gets copies would have answered, beside what callers were answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from themisto.errors import NotFound
from themisto.serving.predictions import FACTS
from themisto.types import Json, Model, UtcTime

__all__ = ["Agreement", "Apart", "Compared", "Times", "compare", "compared"]

_RTOL, _ATOL = 1e-4, 1e-5


class Times(Model):
    """How long requests took; None where the log does not say it."""

    p50_ms: float | None
    p99_ms: float | None


class Apart(Model):
    """One row on which they do not agree; `difference` as in `compare`, None where the shadow gave no answer."""

    time: UtcTime
    request_id: str
    row: int
    difference: float | None
    ours: Mapping[str, Json]
    shadow: Mapping[str, Json]


class Agreement(Model):
    """What a comparison comes to; as text, one line."""

    release: str
    """The shadow's."""
    beside: tuple[str, ...]
    """What answered the callers."""
    rows: int
    requests: int
    agree: float
    """Share of the rows, 0 to 1."""
    largest: float | None
    """Difference."""
    latency: Times
    latency_shadow: Times
    failed: int
    """Rows to which the shadow gave no answer."""
    alone: int
    """Answers of the shadow whose caller's own is not in the log."""
    apart: tuple[Apart, ...]
    """The rows that differ most, first."""

    def __str__(self) -> str:
        p50, p99 = (_text(value, ".1f") for value in (self.latency.p50_ms, self.latency.p99_ms))
        their50, their99 = (_text(value, ".1f") for value in (self.latency_shadow.p50_ms, self.latency_shadow.p99_ms))
        parts = [
            f"{self.release} beside {', '.join(self.beside)}",
            f"{self.rows:,} rows of {self.requests:,} requests, {self.agree:.1%} agree",
            f"largest difference {_text(self.largest, '.4g')}",
            f"latency p50 {p50} ms (shadow {their50}), p99 {p99} ms (shadow {their99})",
        ]
        parts += [f"the shadow failed in {self.failed:,} rows"] if self.failed else []
        parts += [f"{self.alone:,} answers of the shadow without the caller's own"] if self.alone else []
        return "; ".join(parts) + "."


class Compared(NamedTuple):
    """Both answers row by row, and what they come to."""

    frame: pd.DataFrame
    agreement: Agreement


def compare(log: pd.DataFrame, outputs: tuple[str, ...], *, rtol: float = _RTOL, atol: float = _ATOL) -> pd.DataFrame:
    """Both answers to each row, those that differ most first.

    log: rows of requests that a shadow answered, both answers (`Observing.log(pairs=True)`).
    outputs: the stable release's outputs. Numbers agree within `atol + rtol * |stable|`, all else if equal.

    Columns: time, request_id, row, key, `release`, `release_shadow`, the inputs, each output and
    `OUTPUT_shadow`, `difference` (the largest of the row's outputs: absolute for numbers, 1 for texts that
    are not the same), `agrees`, `latency_ms`, `latency_ms_shadow`. `.attrs["summary"]` says it in one line.
    Raises NotFound where there is nothing to compare.
    """
    frame, agreement = compared(log, outputs, rtol=rtol, atol=atol)
    frame.attrs["summary"] = str(agreement)
    return frame


def compared(
    log: pd.DataFrame, outputs: tuple[str, ...], *, rtol: float = _RTOL, atol: float = _ATOL, most: int = 10
) -> Compared:
    """`compare`'s frame and what it comes to, with the `most` rows that differ most. Raises what `compare` raises."""
    ours, theirs = log[~log["shadow"]], log[log["shadow"]]
    on = ["request_id", "row"]
    names = [o if o in log.columns else f"outputs.{o}" for o in outputs]
    names = [n for n in names if n in log.columns]
    facts = ["release", "status", "latency_ms", *names]
    both = ours.drop_duplicates(on).merge(
        theirs.drop_duplicates(on)[[*on, *facts]], on=on, suffixes=("", "_shadow"), how="inner"
    )
    if both.empty:
        raise NotFound(
            "No request has both answers in the log yet.",
            "Deploy with --shadow, let callers ask, and look again in some seconds.",
        )
    gaps = {name: _gaps(both[name], both[f"{name}_shadow"], rtol, atol) for name in names}
    answered = both["status_shadow"].isin([200, 0]).to_numpy(bool)
    both["difference"] = np.max([gap for gap, _ in gaps.values()], axis=0) if gaps else np.nan
    both["agrees"] = np.logical_and.reduce([agrees for _, agrees in gaps.values()] or [answered]) & answered
    both = both.sort_values(["agrees", "difference"], ascending=[True, False], na_position="first", kind="stable")
    skipped = {*FACTS, "label"} - {"time", "request_id", "row", "key", "release"}
    inputs = [c for c in ours.columns if c not in skipped and c not in names and c in both.columns]
    pairs = [c for name in names for c in (name, f"{name}_shadow")]
    at = inputs.index("release") + 1
    columns = [*inputs[:at], "release_shadow", *inputs[at:], *pairs, "difference", "agrees"]
    found = both[[*columns, "latency_ms", "latency_ms_shadow"]].reset_index(drop=True)
    alone = len(theirs.drop_duplicates(on)) - len(both)
    return Compared(found, _agreement(both, names, alone=alone, most=most))


def _gaps(ours: pd.Series[Any], theirs: pd.Series[Any], rtol: float, atol: float) -> tuple[Any, Any]:
    """How far apart each row is, and whether that counts as the same."""
    a, b = _matrix(ours), _matrix(theirs)
    if a is None or b is None or a.shape != b.shape:
        same = np.array([_same(x, y) for x, y in zip(ours, theirs, strict=True)])
        return np.where(same, 0.0, 1.0), same
    missing = np.isnan(a) & np.isnan(b)
    gap = np.where(missing, 0.0, np.abs(a - b))
    close = missing | (gap <= atol + rtol * np.abs(a))
    return gap.max(axis=1), close.all(axis=1)


def _matrix(values: pd.Series[Any]) -> np.ndarray[Any, Any] | None:
    """`(rows, width)` of floats; None where the values are no numbers."""
    try:
        matrix = np.array([np.atleast_1d(np.asarray(v, dtype=float)) for v in values], dtype=float)
    except (TypeError, ValueError):
        return None
    return matrix if matrix.ndim == 2 else None


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) if not (isinstance(a, list) or isinstance(b, list)) else list(a or []) == list(b or [])


def _agreement(both: pd.DataFrame, names: list[str], *, alone: int, most: int) -> Agreement:
    once = both.drop_duplicates("request_id")
    return Agreement(
        release=str(both["release_shadow"].iloc[0]),
        beside=tuple(sorted(both["release"].dropna().unique())),
        rows=len(both),
        requests=both["request_id"].nunique(),
        agree=float(both["agrees"].mean()),
        largest=_number(both["difference"].max()),
        latency=_times(once["latency_ms"]),
        latency_shadow=_times(once["latency_ms_shadow"]),
        failed=int((~both["status_shadow"].isin([200, 0])).sum()),
        alone=alone,
        apart=tuple(_apart(row, names) for row in both[~both["agrees"]].head(most).to_dict("records")),
    )


def _apart(row: Mapping[Any, Any], names: list[str]) -> Apart:
    return Apart(
        time=row["time"],
        request_id=row["request_id"],
        row=row["row"],
        difference=_number(row["difference"]),
        ours={name: _plain(row[name]) for name in names},
        shadow={name: _plain(row[f"{name}_shadow"]) for name in names},
    )


def _times(latency: pd.Series[Any]) -> Times:
    p50, p99 = latency.quantile([0.5, 0.99])
    return Times(p50_ms=_number(p50), p99_ms=_number(p99))


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(value: Any) -> Json:
    """As JSON has it: a missing or infinite number is null."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    found: Json = None if value is None or (isinstance(value, float) and not np.isfinite(value)) else value
    return found


def _text(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
