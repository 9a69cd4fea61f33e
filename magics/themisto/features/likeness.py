"""Whether fresh rows look like the rows a service was made with: columns, types, nulls, ranges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.findings import Finding, Severity
from themisto.features.models import Column
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto.features.sources import as_table, conform

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["unlike"]

_NULLS_PCT = 5.0
_OUTSIDE_PCT = 1.0


def unlike(spec: ServiceSpec, files: Mapping[str, Path], against: pd.DataFrame | None) -> list[Finding]:
    """Findings on features of `against` that are missing or not as the offline rows: of another type, over 5 points
    more nulls, over 1 % of the values outside the offline range (categories: never seen offline).

    against: None looks at the offline rows alone: a feature without a value is of no use. Features of windows have no
        offline values: of them only presence and type are looked at.
    """
    found = [
        _of_windows(column, against)
        if column.view in spec.windows
        else _one(column, as_table(files[column.view], [column.feature])[column.feature], against)
        for column in spec.columns
    ]
    return [finding for finding in found if finding is not None]


def _of_windows(column: ServiceColumn, against: pd.DataFrame | None) -> Finding | None:
    fresh = None if against is None else _fresh(column, against)
    return fresh if isinstance(fresh, Finding) else None


def _one(column: ServiceColumn, base: Any, against: pd.DataFrame | None) -> Finding | None:
    if against is not None:
        return _compared(column, base, against)
    if base.null_count < len(base):
        return None
    what = f"is empty in all {len(base)} rows" if len(base) else "has no rows"
    return _finding(column, "warning", f"{what} offline.", "Look at the source of its view.")


def _fresh(column: ServiceColumn, against: pd.DataFrame) -> Any:
    """The column of the rows to compare, or what is wrong with it."""
    if column.name not in against.columns:
        return _finding(column, "error", "is missing in the rows to compare.", "Join them with %%features.")
    try:
        return conform(as_table(against, [column.name]), [Column(name=column.name, dtype=column.dtype)])[column.name]
    except Invalid as error:
        return _finding(column, "error", f"does not fit: {error.detail}", error.remedy)


def _compared(column: ServiceColumn, base: Any, against: pd.DataFrame) -> Finding | None:
    fresh = _fresh(column, against)
    if isinstance(fresh, Finding):
        return fresh
    nulls, before = _nulls(fresh), _nulls(base)
    if nulls > before + _NULLS_PCT:
        told = f"is empty in {nulls:.3g} % of the rows, offline in {before:.3g} %."
        return _finding(column, "warning", told, "Find out what is missing.", nulls_pct=nulls, offline_nulls_pct=before)
    known = _range(base)
    outside = _outside(fresh, base, known)
    if outside <= _OUTSIDE_PCT:
        return None
    among = "values seen" if isinstance(known, int) else "range"
    if among == "range" and not column.personal:
        among = f"range {known[0]} to {known[1]}"
    told = f"is outside the {among} offline in {outside:.3g} % of the rows."
    return _finding(column, "warning", told, "Look at its unit and its source.", outside_pct=outside)


def _finding(column: ServiceColumn, severity: Severity, told: str, remedy: str, **figures: Any) -> Finding:
    subject = f"{column.view}:{column.feature}"
    detail = f"'{column.name}' {told}"
    return Finding(check="likeness", subject=subject, severity=severity, detail=detail, remedy=remedy, figures=figures)


def _nulls(array: Any) -> float:
    return 100.0 * int(array.null_count) / max(len(array), 1)


def _range(array: Any) -> Any:
    """Least and greatest value; of texts their number; None: there is no range."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(array.type):
        return None
    if pa.types.is_string(array.type):
        return pc.count_distinct(array).as_py()
    span: Any = pc.min_max(array).as_py()
    return None if span["min"] is None else (span["min"], span["max"])


def _outside(fresh: Any, base: Any, known: Any) -> float:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.drop_null(fresh)
    if len(values) == 0 or known is None:
        return 0.0
    if pa.types.is_string(values.type):
        inside = pc.is_in(values, value_set=pc.unique(base))
    else:
        low, high = (pa.scalar(k, type=values.type) for k in known)
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    return 100.0 * (1 - float(pc.mean(inside.cast(pa.int8())).as_py()))
