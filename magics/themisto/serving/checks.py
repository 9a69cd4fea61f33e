"""Checks: what is wrong with a sample or with an exporter's answers, said by the name of the column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from themisto.errors import Failed, Invalid

if TYPE_CHECKING:
    from themisto.serving.frame import Tensors

__all__ = ["odd_values", "require_answers", "require_no_target", "sounds_like_target"]

_TARGETS = ("target", "label", "labels", "y", "outcome", "y_true", "ground_truth")
_ENOUGH_ROWS = 20


def require_answers(exporter: Any, answers: Any, rows: int) -> None:
    """Raises Failed for answers that are not arrays with a row for each row: an exporter may be anybody's."""
    name = type(exporter).__name__
    remedy = "Tell who wrote the exporter."
    if not isinstance(answers, dict) or not answers:
        raise Failed(f"The exporter {name} gives a {type(answers).__name__} of answers, not names to arrays.", remedy)
    for output, array in answers.items():
        shape = getattr(array, "shape", None)
        if not isinstance(array, np.ndarray) or array.ndim < 2 or len(array) != rows:
            raise Failed(f"The exporter {name} answers '{output}' with shape {shape} for {rows} rows.", remedy)
        text = array.dtype == object and all(isinstance(v, str) for v in array.flat)
        if array.dtype.kind not in "bif" and not text:
            raise Failed(f"The exporter {name} answers '{output}' with {array.dtype} values.", remedy)


def require_no_target(frame: pd.DataFrame, answers: Tensors) -> None:
    """A fitted model that takes a column which is its own answer was fitted on the target. Raises Invalid."""
    for name, values in frame.items():
        for array in answers.values():
            if len(frame) >= _ENOUGH_ROWS and array.shape == (len(frame), 1) and _repeats(values, array.reshape(-1)):
                raise Invalid(
                    f"The column '{name}' is what the model answers, row by row: the target was left in.",
                    f"Fit it without '{name}': whoever asks does not know it yet.",
                )


def sounds_like_target(frame: pd.DataFrame) -> str:
    """The column whose name says that it is what is to be predicted, or nothing."""
    return next((str(c) for c in frame.columns if str(c).lower() in _TARGETS), "")


def odd_values(frame: pd.DataFrame) -> str:
    """The columns with infinities, missing values or times, in brackets, or nothing: where a model fails on them."""
    found = []
    for name, values in frame.items():
        if getattr(values.dtype, "kind", "O") in "mM":
            found.append(f"'{name}' holds times")
        if pd.api.types.is_float_dtype(values) and np.isinf(values.to_numpy(dtype=float, na_value=np.nan)).any():
            found.append(f"'{name}' holds infinities")
        if values.isna().any():
            found.append(f"'{name}' has missing values")
    return f" ({', '.join(found[:5])})" if found else ""


def _repeats(values: pd.Series[Any], answer: np.ndarray[Any, Any]) -> bool:
    if values.nunique(dropna=False) < 2 or values.isna().any():
        return False
    if answer.dtype == object:
        return bool((values.astype(str).to_numpy() == answer).all())
    if not (pd.api.types.is_numeric_dtype(values) and answer.dtype.kind in "bif"):
        return False
    return bool(np.allclose(values.to_numpy(dtype=float), answer.astype(float), rtol=1e-6, atol=0, equal_nan=False))
