"""CatBoost models of numbers as ONNX: `CatBoostClassifier`, `CatBoostRegressor`, `CatBoostRanker`, `CatBoost`."""

from __future__ import annotations

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

__all__ = ["CatBoost", "tree_graph"]

_MATRIX = "features"
_IR_VERSION = 10  # CatBoost writes 3, which knows no constants beside the inputs


class CatBoost:
    """By its own writer, which does not know categories: a model of these is served natively."""

    packages = ("catboost",)

    def accepts(self, model: object) -> bool:
        return from_package(model, "catboost") and hasattr(model, "predict")

    def columns(self, model: Any) -> tuple[str, ...] | None:
        names = model.feature_names_
        return None if not names or all(n == str(i) for i, n in enumerate(names)) else tuple(names)

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        if not model.is_fitted():
            raise Invalid("The CatBoost model is not fitted.", "Call .fit on it first.")
        if from_package(model, "catboost") and hasattr(model, "predict_proba"):
            return {LABEL: label_of(model.predict(frame)), PROBABILITIES: numbers_of(model.predict_proba(frame))}
        return {PREDICTION: numbers_of(model.predict(frame))}

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        from themisto.serving import graph

        inputs = model_columns(frame)
        if model.get_cat_feature_indices() or model.get_text_feature_indices():
            raise Invalid(
                "The model was fitted with category columns, which CatBoost cannot write as ONNX.",
                "Serve it in its own library: --native (native=True).",
            )
        outputs = outputs_of(self.answers(model, frame.head(2)))
        with converting(model):
            shaped = graph.columns_out(tree_graph(model), _outputs(outputs))
            whole = graph.columns_in(shaped, inputs, matrix=_MATRIX)
        return onnx_export(whole, inputs, outputs)


def tree_graph(model: Any) -> Any:
    """CatBoost's graph of one tree operator, with the probabilities as a tensor. Raises what CatBoost raises."""
    import onnx
    from catboost.utils import convert_to_onnx_object
    from onnx import TensorProto, helper

    made: onnx.ModelProto = convert_to_onnx_object(model)
    made.ir_version = _IR_VERSION
    trees = [node for node in made.graph.node if node.op_type != "ZipMap"]
    del made.graph.node[:]
    made.graph.node.extend(trees)
    if len(trees) != 1:
        raise ValueError(f"{len(trees)} operators where one was expected")
    if trees[0].op_type == "TreeEnsembleClassifier":
        kept = [output for output in made.graph.output if output.name == LABEL]
        del made.graph.output[:]
        tensor = helper.make_tensor_value_info(trees[0].output[1], TensorProto.FLOAT, [None, None])
        made.graph.output.extend([*kept, tensor])
    return made


def _outputs(columns: tuple[Column, ...]) -> dict[str, tuple[Take, Column]]:
    from themisto.serving.graph import Take

    named = {LABEL: LABEL, PROBABILITIES: "probability_tensor", PREDICTION: "predictions"}
    return {column.name: (Take(named[column.name]), column) for column in columns}
