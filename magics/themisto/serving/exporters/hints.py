"""Hints: what a function's return annotation says of its outputs.

`-> float` is one output of that type; `-> Answer`, a TypedDict of such types, names and types several.
`X | None` may be missing. A DataFrame, Series or array says nothing: then the answers to the sample do.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import date, datetime, timedelta
from types import NoneType, UnionType
from typing import Any

from themisto.serving.exporters.answers import PREDICTION
from themisto.serving.models import Column
from themisto.serving.portable.values import NO_TIME

__all__ = ["hinted"]

_PLAIN: dict[Any, dict[str, Any]] = {
    float: {"dtype": "FP64"},
    int: {"dtype": "INT64"},
    bool: {"dtype": "BOOL"},
    str: {"dtype": "BYTES"},
    datetime: {"dtype": "INT64", "logical": "datetime", "missing": NO_TIME},
    date: {"dtype": "INT64", "logical": "date", "missing": NO_TIME},
    timedelta: {"dtype": "INT64", "logical": "duration", "missing": NO_TIME},
}
_OPTIONAL: dict[Any, dict[str, Any]] = {
    **_PLAIN,
    int: {"dtype": "FP64", "logical": "integer"},
    bool: {"dtype": "FP64", "logical": "boolean"},
    str: {"dtype": "BYTES", "missing": ""},
}


def hinted(function: Callable[..., Any]) -> tuple[Column, ...] | None:
    """The output columns, or None where the annotation does not say all of them.

    >>> def risk(df) -> float | None: ...
    >>> hinted(risk)[0].dtype
    'FP64'
    """
    try:
        answer = typing.get_type_hints(function).get("return")
    except (NameError, TypeError):  # a name that only a type checker knows
        return None
    if typing.is_typeddict(answer):
        found = [_column(name, hint) for name, hint in typing.get_type_hints(answer).items()]
    else:
        found = [_column(PREDICTION, answer)]
    stated = tuple(c for c in found if c is not None)
    return stated if stated and len(stated) == len(found) else None


def _column(name: str, hint: Any) -> Column | None:
    optional = typing.get_origin(hint) in (typing.Union, UnionType)
    kinds = [k for k in typing.get_args(hint) if k is not NoneType] if optional else [hint]
    fields = (_OPTIONAL if optional else _PLAIN).get(kinds[0]) if len(kinds) == 1 else None
    return None if fields is None else Column(name=name, **fields)
