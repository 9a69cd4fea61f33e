"""XGBoost models as ONNX: `XGBClassifier`, `XGBRegressor`, `XGBRanker` and `Booster`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.serving.exporter import Export
from themisto.serving.exporters.answers import LABEL, PREDICTION, PROBABILITIES, label_of, numbers_of, outputs_of
from themisto.serving.exporters.conversion import converting, from_package, onnx_export
from themisto.serving.frame import model_columns
from themisto.serving.models import Column

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors
    from themisto.serving.graph import Take

__all__ = ["XgBoost"]

_MATRIX = "features"


class XgBoost:
    """Trees as ONNX's own tree operators, which compare in FP32 as XGBoost itself does."""

    packages = ("xgboost", "xgboost-cpu")

    def accepts(self, model: object) -> bool:
        return from_package(model, "xgboost") and hasattr(model, "predict")

    def columns(self, model: Any) -> tuple[str, ...] | None:
        names = _booster(model).feature_names
        return tuple(names) if names else None

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        if hasattr(model, "get_booster"):
            if hasattr(model, "predict_proba"):
                return {LABEL: label_of(model.predict(frame)), PROBABILITIES: numbers_of(model.predict_proba(frame))}
            return {PREDICTION: numbers_of(model.predict(frame))}
        import xgboost

        matrix = xgboost.DMatrix(frame, feature_names=model.feature_names)
        return {PREDICTION: numbers_of(model.predict(matrix, iteration_range=_used_rounds(model)))}

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        from themisto.serving import graph

        inputs = model_columns(frame)
        _refuse_categories(model, inputs)
        outputs = outputs_of(self.answers(model, frame.head(2)))
        with converting(model):
            converted = convert_xgboost(
                _nameless(model),
                name="model",
                initial_types=[(_MATRIX, FloatTensorType([None, len(inputs)]))],
            )
            shaped = graph.columns_out(converted, _outputs(model, outputs, converted))
            whole = graph.columns_in(shaped, inputs, matrix=_MATRIX)
        return onnx_export(whole, inputs, outputs)


def _booster(model: Any) -> Any:
    return model.get_booster() if hasattr(model, "get_booster") else model


def _used_rounds(booster: Any) -> tuple[int, int]:
    """The rounds that predict uses after early stopping; (0, 0): all."""
    best = booster.attr("best_iteration")
    return (0, int(best) + 1) if best is not None else (0, 0)


def _nameless(model: Any) -> Any:
    """A copy cut to the rounds in use, without feature names: the converter only knows f0, f1, …"""
    import copy

    booster = _booster(model)
    first, end = _used_rounds(booster)
    cut = booster[first:end] if end else booster.copy()
    cut.feature_names = None
    cut.set_attr(best_iteration=None, best_score=None)
    if not hasattr(model, "get_booster"):
        return cut
    twin = copy.copy(model)
    twin._Booster = cut
    return twin


def _outputs(model: Any, columns: tuple[Column, ...], converted: Any) -> dict[str, tuple[Take, Column]]:
    """What the converter calls `label`, `probabilities` or `variable`, by our names."""
    from themisto.serving.graph import Take

    have = [o.name for o in converted.graph.output]
    found = {}
    for column in columns:
        if column.name in have:
            found[column.name] = (Take(column.name), column)
        elif PROBABILITIES in have and not _says_class(model):
            found[column.name] = (Take(PROBABILITIES, 1 if column.shape == (1,) else None), column)
        else:
            found[column.name] = (Take(have[0]), column)
    return found


def _says_class(model: Any) -> bool:
    """`multi:softmax` answers the class itself, not its probabilities."""
    return bool(_objective(model) == "multi:softmax")


def _objective(model: Any) -> str:
    config = json.loads(_booster(model).save_config())
    return str(config["learner"]["objective"]["name"])


def _refuse_categories(model: Any, inputs: tuple[Column, ...]) -> None:
    text = [c.name for c in inputs if c.dtype == "BYTES"]
    if text or "c" in (_booster(model).feature_types or []):
        named = f" ('{text[0]}')" if text else ""
        raise Invalid(
            f"The model was fitted with category columns{named}, which XGBoost's converter does not know.",
            "Serve it in its own library: --native; or put an OrdinalEncoder before it in a scikit-learn Pipeline.",
        )
