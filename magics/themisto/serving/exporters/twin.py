"""Twin: a copy of a scikit-learn model that answers the same and that skl2onnx can convert.

The model itself is never changed. Where nothing has to be rewritten it is its own twin.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from themisto.serving.exporters.conversion import from_package

__all__ = ["MISSING", "parts_of", "twin_of"]

MISSING = "nan"
"""What a missing text is called inside a graph: the name that skl2onnx gives to a category NaN."""


def twin_of(model: Any) -> tuple[Any, bool]:
    """The twin, and whether some part of it knows missing texts."""
    if not any(_rewrite(part) for part in parts_of(model)):
        return model, False
    twin = copy.deepcopy(model)
    texts = False
    for part in parts_of(twin):
        for name, value in _rewrite(part).items():
            texts = texts or name in ("categories_", "missing_values")
            setattr(part, name, value)
    return twin, texts


def parts_of(model: Any) -> Iterator[Any]:
    """The fitted estimators that a model is made of, itself first."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, list | tuple):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif hasattr(one, "get_params") and not isinstance(one, type):
            yield one
            waiting.extend(value for value in vars(one).values() if not isinstance(value, np.ndarray))
        elif type(one).__name__ == "_CalibratedClassifier":
            waiting.extend(vars(one).values())


def _rewrite(part: Any) -> dict[str, Any]:
    """Attributes to set on a copy of the part."""
    kind = type(part).__name__
    if kind == "KBinsDiscretizer" and part.encode == "onehot":
        return {"encode": "onehot-dense"}
    if kind == "SimpleImputer" and getattr(getattr(part, "statistics_", None), "dtype", np.dtype(float)).kind == "O":
        return {"missing_values": MISSING} if not isinstance(part.missing_values, str) else {}
    if kind in ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder") and hasattr(part, "categories_"):
        return _encoder(part)
    if from_package(part, "xgboost") and hasattr(part, "get_booster"):
        return _booster(part)
    return {}


def _encoder(part: Any) -> dict[str, Any]:
    """Categories with NaN for what is missing, or for an ordinal code NaN without it: what is unknown is NaN then."""
    if not any(_has_missing(values) for values in part.categories_):
        return {}
    if type(part).__name__ == "OrdinalEncoder" and np.isnan(part.encoded_missing_value):
        kept = [np.array([v for v in values if not _is_missing(v)], dtype=object) for values in part.categories_]
        unknown = {"handle_unknown": "use_encoded_value", "unknown_value": float("nan")}
        free = part.handle_unknown == "error" or np.isnan(part.unknown_value)
        return {"categories_": kept, **unknown} if free else {}
    named = [np.array([np.nan if _is_missing(v) else v for v in values], dtype=object) for values in part.categories_]
    return {"categories_": named}


def _has_missing(values: Any) -> bool:
    return values.dtype.kind == "O" and any(_is_missing(v) for v in values)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def _booster(part: Any) -> dict[str, Any]:
    """Without feature names: the converter only knows f0, f1, …"""
    from xgboost.core import XGBoostError

    try:
        booster = part.get_booster()
    except (XGBoostError, AttributeError):  # a template that was never fitted
        return {}
    if not booster.feature_names:
        return {}
    plain = booster.copy()
    plain.feature_names = None
    return {"_Booster": plain}
