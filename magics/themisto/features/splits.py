"""Rows that stand on both sides of a split: what a model has seen in training is no test of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.findings import Finding

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["split_over"]

_EXAMPLES = 3


def split_over(
    frame: pd.DataFrame, parts: pd.Series[str], keys: Sequence[str], at: str, features: Sequence[str]
) -> list[Finding]:
    """Findings on the rows of `frame` that are in more than one part.

    parts: for each row the part that it is in.
    features: the columns of the service.
    Raises Invalid for a split of one part.
    """
    names = sorted(map(str, parts.dropna().unique()))
    if len(names) < 2:
        raise Invalid(
            f"The split has one part: {', '.join(names) or 'none'}.", "Give a column that names each row's part."
        )
    found = []
    twice = _in_several(frame, parts, [*keys, at])
    if twice.any():
        who = frame.loc[twice, [*keys, at]].drop_duplicates()
        found.append(
            Finding(
                check="split",
                subject=", ".join([*keys, at]),
                severity="error",
                detail=f"{_share(twice)} have the same entity and time in more than one part ({' and '.join(names)}).",
                remedy="Split by entity or by time, after removing doubles.",
                figures={"rows": int(twice.sum()), "examples": who.head(_EXAMPLES).astype(str).to_dict("records")},
            )
        )
    valued = [f for f in features if f in frame.columns and not _has_lists(frame[f])]
    alike = _in_several(frame, parts, valued) & frame[valued].notna().any(axis=1) & ~twice if valued else twice & False
    if alike.any():
        within = frame[valued].duplicated(keep=False)
        found.append(
            Finding(
                check="split",
                subject="features",
                severity="warning",
                detail=f"{_share(alike)} have features that are equal, all {len(valued)} of them, in another part.",
                remedy="Keep rows that share their features in one part (GroupKFold), or split by time.",
                figures={"rows": int(alike.sum()), "alike_pct": 100 * float(within.mean())},
            )
        )
    return found


def _in_several(frame: pd.DataFrame, parts: pd.Series[str], columns: Sequence[str]) -> pd.Series[bool]:
    """For each row whether one that is equal in `columns` is in another part."""
    kept = frame[list(columns)].assign(_part=parts)
    several: pd.Series[bool] = (
        kept.groupby(list(columns), dropna=False, observed=True)["_part"].transform("nunique") > 1
    )
    return several


def _has_lists(values: pd.Series[Any]) -> bool:
    return values.dtype == object and bool(values.map(lambda v: hasattr(v, "__len__") and not isinstance(v, str)).any())


def _share(rows: pd.Series[bool]) -> str:
    return f"{int(rows.sum())} of {len(rows)} rows"
