"""Answers: a model's own predictions in the shape its export must give them.

Classifiers answer `label` and, where they have them, `probabilities`; everything else `prediction`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from themisto.errors import Invalid
from themisto.serving.models import Column, Dtype

__all__ = ["LABEL", "PREDICTION", "PROBABILITIES", "label_of", "numbers_of", "outputs_of"]

LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"


def label_of(predicted: Any) -> np.ndarray[Any, Any]:
    """Class labels as `(rows, 1)`: int64, bool or str; whole-number floats become int64."""
    array = np.asarray(predicted).reshape(-1, 1)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "f" and np.array_equal(array, np.floor(array)):
        return array.astype(np.int64)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "OUS" and all(isinstance(v, str) for v in array.flat):
        return array.astype(object)
    raise Invalid(
        f"The classes are {array.dtype} values; a label is an integer, a boolean or a string.",
        "Fit on such labels, e.g. y.astype(str).",
    )


def numbers_of(predicted: Any) -> np.ndarray[Any, Any]:
    """Numbers as `(rows, k)`, FP32 or FP64 as the model gives them; integers become int64."""
    array = np.asarray(predicted)
    array = array.reshape(len(array), -1)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def outputs_of(answers: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Column, ...]:
    """The output columns of an ONNX export that gives `answers`: numbers leave a graph as FP32."""
    return tuple(Column(name=name, dtype=_dtype(array), shape=array.shape[1:]) for name, array in answers.items())


def _dtype(array: np.ndarray[Any, Any]) -> Dtype:
    kinds: dict[str, Dtype] = {"i": "INT64", "f": "FP32", "b": "BOOL", "O": "BYTES"}
    return kinds[array.dtype.kind]
