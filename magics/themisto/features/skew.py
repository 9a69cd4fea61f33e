"""Skew: what a model would get online now, held against what it would be trained on, entity by entity.

A difference is explained by the first of these that holds:

| kind | the online store |
|---|---|
| missing offline | has a row that the view's rows do not have, or a newer one |
| expired | has let the row go (`ttl` online, `max_age`), or still has one that is older than the view's `ttl` |
| late | has an older row, or none: the newer one came after the last materialization |
| missing online | has no row, and a materialization has passed it by |
| type | has a value of another type |
| rewritten | has another value at the same event time: the view's rows were changed, or it was filled by other means |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from themisto.features.dtypes import Dtype, fits, stored

__all__ = ["Difference", "Kind", "Row", "Terms", "explain"]

Kind = Literal["missing offline", "expired", "late", "missing online", "type", "rewritten"]


class Row(NamedTuple):
    """The newest row of an entity: event time in µs since 1970, and its values as JSON has them (`to_json`)."""

    at: int
    values: tuple[Any, ...]


class Terms(NamedTuple):
    """What a row's age means.

    now, online_to: µs since 1970; the latter is the newest event time that was materialized, None: nothing was.
    ttl_s: how long a row holds in training. gone_s: how long it is to be had online. None: for ever.
    """

    now: int
    ttl_s: float | None = None
    gone_s: float | None = None
    online_to: int | None = None

    def expired(self, row: Row) -> bool:
        return self.ttl_s is not None and (self.now - row.at) / 1e6 > self.ttl_s

    def gone(self, row: Row) -> bool:
        return self.gone_s is not None and (self.now - row.at) / 1e6 > self.gone_s

    def behind(self, row: Row) -> bool:
        return self.online_to is not None and row.at > self.online_to


class Difference(NamedTuple):
    """Why two rows are not the same, and in which columns (by place)."""

    kind: Kind
    columns: tuple[int, ...]


def explain(dtypes: Sequence[Dtype], offline: Row | None, online: Row | None, terms: Terms) -> Difference | None:
    """Why a model gets something else online than in training; None: it does not."""
    nothing = (None,) * len(dtypes)
    trained = nothing if offline is None or terms.expired(offline) else offline.values
    got = nothing if online is None else online.values
    unequal = tuple(i for i, dtype in enumerate(dtypes) if not _equal(dtype, trained[i], got[i]))
    return Difference(_kind(dtypes, offline, online, terms, unequal), unequal) if unequal else None


def _kind(
    dtypes: Sequence[Dtype], offline: Row | None, online: Row | None, terms: Terms, unequal: Sequence[int]
) -> Kind:
    if offline is None or (online is not None and online.at > offline.at):
        return "missing offline"
    if terms.expired(offline) or (online is None and terms.gone(offline)):
        return "expired"
    if online is None:
        return "late" if terms.behind(offline) else "missing online"
    if online.at < offline.at:
        return "late"
    odd = any(online.values[i] is not None and not fits(dtypes[i], online.values[i]) for i in unequal)
    return "type" if odd else "rewritten"


def _equal(dtype: Dtype, offline: Any, online: Any) -> bool:
    """NaN and None are alike; floats are equal to the bit of their type."""
    if _none(offline) or _none(online):
        return _none(offline) and _none(online)
    if not fits(dtype, online):
        return False
    if dtype in ("float32", "list[float32]"):
        return bool(_single(offline) == _single(online))
    one, other = stored(dtype, offline), stored(dtype, online)
    return bool(list(one) == list(other) if dtype.startswith("list") else one == other)


def _none(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _single(value: Any) -> Any:
    import numpy as np

    with np.errstate(over="ignore"):
        return np.asarray(value, dtype="float32").tolist()
