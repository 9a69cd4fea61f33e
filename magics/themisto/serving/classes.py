"""Classes: what a classifier tells apart, as the labels of rows show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from themisto.errors import Invalid

__all__ = ["classes_in", "kind_of", "positions"]

Array = npt.NDArray[Any]


def classes_in(values: Array) -> list[Any]:
    """Distinct labels in order: whole numbers (booleans too) or texts. Raises Invalid for anything else."""
    kind = np.asarray(values).dtype.kind
    if kind == "b" or kind in "iu":
        return [int(v) for v in np.unique(values)]
    if kind == "f" and np.isfinite(values).all() and np.array_equal(values, np.floor(values)):
        return [int(v) for v in np.unique(values)]
    if kind in "OU" and all(isinstance(v, str) for v in values):
        return sorted(set(values))
    if kind == "O" and all(isinstance(v, bool | int | np.bool_ | np.integer) for v in values):
        return sorted({int(v) for v in values})
    raise Invalid(
        "The label is no class: classes are whole numbers, booleans or texts.",
        "Gate on rmse, mae, mape or r2, or give the column with the classes.",
    )


def positions(values: Array, classes: list[Any]) -> Array:
    """Where in `classes` each value is."""
    if isinstance(classes[0], str):
        where = {label: i for i, label in enumerate(classes)}
        return np.array([where[v] for v in values], dtype=np.int64)
    return np.searchsorted(np.array(classes, dtype=np.int64), values.astype(np.int64))


def kind_of(classes: list[Any]) -> str:
    """What they are, in words."""
    return "text" if isinstance(classes[0], str) else "whole numbers"
