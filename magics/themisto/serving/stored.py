"""Stored: `function.py` of a model that is kept in its own library; loaded once, asked as its kernel asked it.

Lies beside `model.json` and the model in a folder of its own; imports nothing of themisto.
"""

from __future__ import annotations

import importlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["predict"]

_FOLDER = Path(__file__).parent


def predict(df: pd.DataFrame) -> Any:
    """The model's answers by the names of its outputs."""
    frame = as_fitted(df, _told()["dtypes"])
    given = frame if _told()["by_name"] else frame.to_numpy()
    model = _model()
    while len(getattr(model, "steps", ())) > 1:  # label and probabilities share what comes before the last step
        given, model = model[:-1].transform(given), model.steps[-1][1]
    return {name: _ask(model, name, given) for name in _told()["outputs"]}


def as_fitted(df: pd.DataFrame, dtypes: dict[str, Any]) -> pd.DataFrame:
    """The columns in the dtypes that the sample had, categories and marks of missing values included."""
    found = {}
    for name, told in dtypes.items():
        values = df[name]
        if "categories" in told:
            kept = pd.CategoricalDtype(told["categories"], told["ordered"])
            found[name] = pd.Series(pd.Categorical(values.astype(object), dtype=kept), index=df.index)
        elif told["dtype"] == "object":
            mark = None if told["missing"] == "none" else np.nan
            plain = [mark if pd.isna(v) else v for v in values]
            found[name] = pd.Series(plain, dtype=object, index=df.index)
        else:
            found[name] = values.astype(told["dtype"])
    return pd.DataFrame(found, index=df.index)


def _ask(model: Any, output: str, given: Any) -> Any:
    if output == "probabilities":
        return np.asarray(model.predict_proba(given))
    if type(model).__module__.partition(".")[0] == "xgboost" and hasattr(model, "attr"):
        return _ask_booster(model, given)
    answer = np.asarray(model.predict(given))
    return answer.reshape(-1) if output == "label" else answer


def _ask_booster(model: Any, given: pd.DataFrame) -> Any:
    """An `xgboost.Booster`, with the rounds that early stopping left."""
    best = model.attr("best_iteration")
    categories = any(isinstance(d, pd.CategoricalDtype) for d in given.dtypes)
    # Not a plain import: mypy would want the stubs of a library that this file only knows by name.
    matrix = importlib.import_module("xgboost").DMatrix(
        given, feature_names=model.feature_names, enable_categorical=categories
    )
    return model.predict(matrix, iteration_range=(0, int(best) + 1) if best is not None else (0, 0))


_loaded: dict[str, Any] = {}


def _told() -> dict[str, Any]:
    if "told" not in _loaded:
        _loaded["told"] = json.loads((_FOLDER / "model.json").read_text())
    told: dict[str, Any] = _loaded["told"]
    return told


def _model() -> Any:
    if "model" not in _loaded:
        skops = _FOLDER / "model.skops"
        if skops.exists():
            _loaded["model"] = importlib.import_module("skops.io").load(skops, trusted=_told()["trusted"])
        else:
            _loaded["model"] = pickle.loads((_FOLDER / "model.pickle").read_bytes())  # noqa: S301 - its group's own
    return _loaded["model"]


if (_FOLDER / "model.json").exists():  # where it serves: a model that cannot be loaded fails the load, not a request
    _model()
