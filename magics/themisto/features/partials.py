"""Partials: what a tile keeps of a column's values, so that two tiles make the same as all of their events at once.

Every kind is a commutative monoid: the state of one value, states merged in any order, and an answer at the end.
Integers and decimals are added exactly. Mean and spread are merged as Chan, Golub and LeVeque (1979) do: squares are
never subtracted from each other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

from themisto.features.dtypes import Dtype
from themisto.features.windows import Function, Window

__all__ = ["NEEDS", "PARTIALS", "Partial", "answer", "usable"]

State = tuple[Any, ...]

_LARGEST = 1e150  # its square can be added up
_EXACT = Context(prec=76)
_INT64 = 2**63
_LONG_TEXT = 64


class Partial(NamedTuple):
    """One kind of partial aggregate.

    columns: name and type of what is stored, for values of a type.
    of: the state of one value at `(time, sequence)`. merge: the state of several states, at least one.
    """

    columns: Callable[[Dtype], list[tuple[str, Dtype]]]
    of: Callable[[Any, tuple[int, int]], State]
    merge: Callable[[Sequence[State]], State]


def usable(dtype: Dtype, value: Any) -> Any:
    """The value, or None for a float that is no number or too large to be squared."""
    if value is not None and dtype in ("float32", "float64") and not abs(value) <= _LARGEST:
        return None
    return value


def answer(window: Window, states: dict[str, State]) -> Any:
    """What a window's function gives for the merged states of its partials; without any, what nothing gives."""
    function = window.function
    if any(kind not in states for kind in NEEDS[function]):
        return _NOTHING[window.dtype] if function in ("count", "count_distinct", "sum") else None
    match function:
        case "sum" if window.dtype == "int64":
            total = int(states["sum"][0])
            return total if -_INT64 <= total < _INT64 else None
        case "avg":
            return float(states["sum"][0]) / states["n"][0]
        case "stddev":
            n, _, squares = states["moments"]
            return math.sqrt(squares / (n - 1)) if n > 1 else None
        case "count_distinct":
            return len(json.loads(states["set"][0]))
        case _:
            return states[NEEDS[function][0]][0]


def _total(states: Sequence[State]) -> State:
    first = states[0][0]
    if not isinstance(first, Decimal):
        return (sum(state[0] for state in states),)
    total = first
    for state in states[1:]:
        total = _EXACT.add(total, state[0])
    return (total,)


def _moments(states: Sequence[State]) -> State:
    n, mean, squares = states[0]
    for other, other_mean, other_squares in states[1:]:
        both, apart = n + other, other_mean - mean
        mean += apart * other / both
        squares += other_squares + apart * apart * n * other / both
        n = both
    return n, mean, squares


def _distinct(states: Sequence[State]) -> State:
    return (_dumped(set().union(*(json.loads(state[0]) for state in states))),)


def _dumped(values: set[str]) -> str:
    return json.dumps(sorted(values), separators=(",", ":"))


def _text(value: Any) -> str:
    """A value as a text of its own; long ones by their digest."""
    if isinstance(value, Decimal):
        value = format(value.normalize(_EXACT), "f")
    text = str(value)
    return text if len(text) <= _LONG_TEXT else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _exact(dtype: Dtype) -> bool:
    return dtype in ("int32", "int64", "decimal")


PARTIALS: dict[str, Partial] = {
    "n": Partial(lambda _: [("n", "int64")], lambda value, when: (1,), lambda states: (sum(s[0] for s in states),)),
    "sum": Partial(
        lambda dtype: [("sum", "decimal" if _exact(dtype) else "float64")],
        lambda value, when: (Decimal(value) if isinstance(value, int) else value,),
        _total,
    ),
    "moments": Partial(
        lambda _: [("m_n", "int64"), ("m_mean", "float64"), ("m_squares", "float64")],
        lambda value, when: (1, float(value), 0.0),
        _moments,
    ),
    "min": Partial(lambda dtype: [("min", dtype)], lambda value, when: (value,), min),
    "max": Partial(lambda dtype: [("max", dtype)], lambda value, when: (value,), max),
    "last": Partial(
        lambda dtype: [("last", dtype), ("last_at", "int64"), ("last_seq", "int64")],
        lambda value, when: (value, *when),
        lambda states: max(states, key=lambda s: s[1:]),
    ),
    "set": Partial(lambda _: [("set", "string")], lambda value, when: (_dumped({_text(value)}),), _distinct),
}
"""By name: how many, their sum, mean and spread, least, greatest, the newest, which ones."""

NEEDS: dict[Function, tuple[str, ...]] = {
    "count": ("n",),
    "sum": ("sum",),
    "avg": ("sum", "n"),
    "min": ("min",),
    "max": ("max",),
    "stddev": ("moments",),
    "last": ("last",),
    "count_distinct": ("set",),
}
"""Which partials a function is answered from."""

_NOTHING: dict[Dtype, Any] = {"int64": 0, "float64": 0.0, "decimal": Decimal(0)}
"""How many, and the sum of none."""
