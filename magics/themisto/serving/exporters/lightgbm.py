"""LightGBM models as ONNX: `LGBMClassifier`, `LGBMRegressor`, `LGBMRanker` and `Booster`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from themisto.errors import Invalid
from themisto.serving.exporter import Export
from themisto.serving.exporters.answers import LABEL, PREDICTION, PROBABILITIES, label_of, numbers_of, outputs_of
from themisto.serving.exporters.conversion import converting, from_package, onnx_export
from themisto.serving.frame import model_columns
from themisto.serving.models import Column

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors
    from themisto.serving.graph import Categories, Take

__all__ = ["LightGbm"]

_MATRIX = "features"


class LightGbm:
    """Trees as ONNX's own tree operators; a pandas category column enters as its string or integer."""

    packages = ("lightgbm",)

    def accepts(self, model: object) -> bool:
        return from_package(model, "lightgbm") and hasattr(model, "predict")

    def columns(self, model: Any) -> tuple[str, ...] | None:
        names: Sequence[str] = _booster(model).feature_name()
        return None if all(n == f"Column_{i}" for i, n in enumerate(names)) else tuple(names)

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        if hasattr(model, "classes_"):
            return {LABEL: label_of(model.predict(frame)), PROBABILITIES: numbers_of(model.predict_proba(frame))}
        return {PREDICTION: numbers_of(model.predict(frame))}

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType

        from themisto.serving import graph

        inputs = model_columns(frame)
        outputs = outputs_of(self.answers(model, frame.head(2)))
        with converting(model):
            converted = convert_lightgbm(
                _with_plain_classes(model),
                name="model",
                initial_types=[(_MATRIX, FloatTensorType([None, len(inputs)]))],
                zipmap=False,
            )
            shaped = graph.columns_out(converted, _outputs(outputs, converted))
            whole = graph.columns_in(shaped, inputs, matrix=_MATRIX, categories=_categories(model, frame, inputs))
        return onnx_export(whole, inputs, outputs)


def _booster(model: Any) -> Any:
    return getattr(model, "booster_", model)


def _with_plain_classes(model: Any) -> Any:
    """The model itself, or a twin whose classes are 0 and 1 where they are booleans: the converter knows no others."""
    if not hasattr(model, "classes_") or model.classes_.dtype.kind != "b":
        return model
    twin = copy.copy(model)
    twin._classes = model.classes_.astype(np.int64)
    return twin


def _outputs(columns: tuple[Column, ...], converted: Any) -> dict[str, tuple[Take, Column]]:
    """What the converter calls `label`, `probabilities` or `variable`, by our names.

    A Booster's binary prediction is the probability of class 1: the second column.
    """
    from themisto.serving.graph import Take

    have = [o.name for o in converted.graph.output]
    found = {}
    for column in columns:
        if column.name in have:
            found[column.name] = (Take(column.name), column)
        elif PROBABILITIES in have:
            found[column.name] = (Take(PROBABILITIES, 1 if column.shape == (1,) else None), column)
        else:
            found[column.name] = (Take(have[0]), column)
    return found


def _categories(model: Any, frame: pd.DataFrame, inputs: tuple[Column, ...]) -> Categories:
    """The categories that the model was fitted with, of the sample's category columns, in their order."""
    import pandas as pd

    names = [c.name for c, dtype in zip(inputs, frame.dtypes, strict=True) if isinstance(dtype, pd.CategoricalDtype)]
    fitted = _booster(model).pandas_categorical or []
    if len(names) != len(fitted):
        raise Invalid(
            f"The model was fitted with {len(fitted)} category columns and the sample has {len(names)}.",
            "Give the sample the dtypes of the training data.",
        )
    for values in fitted:
        if values and not isinstance(values[0], str | int | np.integer):
            raise Invalid("A category is neither a string nor an integer.", "Fit on strings: df[c].astype(str).")
    return dict(zip(names, fitted, strict=True))
