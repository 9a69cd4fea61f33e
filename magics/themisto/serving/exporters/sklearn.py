"""scikit-learn estimators and Pipelines as ONNX, with LightGBM and XGBoost as steps."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.serving.exporter import Export, describe
from themisto.serving.exporters.answers import LABEL, PREDICTION, PROBABILITIES, label_of, numbers_of, outputs_of
from themisto.serving.exporters.conversion import OPSET, converting, from_package, onnx_export
from themisto.serving.exporters.twin import MISSING, parts_of, twin_of
from themisto.serving.frame import model_columns, numeric
from themisto.serving.models import Column

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors

__all__ = ["SkLearn"]

_MATRIX, _SCORES, _TRANSFORMED = "features", "scores", "matrix"


class SkLearn:
    """skl2onnx with numbers as FP32; what reads columns by name (ColumnTransformer) gets an input a column."""

    packages = ("scikit-learn", "skl2onnx")

    def accepts(self, model: object) -> bool:
        return from_package(model, "sklearn") and not from_package(model, "lightgbm", "xgboost")

    def columns(self, model: Any) -> tuple[str, ...] | None:
        names = getattr(model, "feature_names_in_", None)
        return None if names is None else tuple(str(n) for n in names)

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        from sklearn.base import is_classifier

        _require_fitted(model)
        given = frame if self.columns(model) is not None else frame.to_numpy()
        predicted = model.predict(given)
        if not is_classifier(model):
            return {PREDICTION: numbers_of(predicted)}
        answers = {LABEL: label_of(predicted)}
        if hasattr(model, "predict_proba"):
            answers[PROBABILITIES] = numbers_of(model.predict_proba(given))
        return answers

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType

        from themisto.serving import graph
        from themisto.serving.exporters.composite import composite_in, convert_composite

        inputs = model_columns(frame)
        outputs = outputs_of(self.answers(model, frame.head(2)))
        twin, texts = twin_of(model)
        by_name = _reads_names(model) or not all(numeric(c) for c in inputs)
        if by_name:
            types = [(c.name, (FloatTensorType if numeric(c) else StringTensorType)([None, 1])) for c in inputs]
        else:
            types = [(_MATRIX, FloatTensorType([None, len(inputs)]))]
        if texts:
            inputs = _naming_missing(inputs, frame)
        names = [c.name for c in outputs]
        with converting(model):
            _know_boosters(twin)
            if composite_in(twin):
                converted = convert_composite(twin, types, names, _converted)
            else:
                converted = _converted(twin, types, names)
            given = [output.name for output in converted.graph.output]
            shaped = graph.columns_out(
                converted, {c.name: (graph.Take(tensor), c) for c, tensor in zip(outputs, given, strict=True)}
            )
            whole = graph.columns_in(
                shaped, inputs, matrix=None if by_name else _MATRIX, missing_text=MISSING if texts else None
            )
        return onnx_export(whole, inputs, outputs)


def _converted(model: Any, types: Any, outputs: Sequence[str]) -> Any:
    """skl2onnx's graph of one model with just these outputs: answers, `scores`, or a transformer's `matrix`."""
    from skl2onnx import convert_sklearn

    converted = convert_sklearn(
        model, "model", initial_types=types, target_opset=OPSET, options=_options(_last_step(model), outputs)
    )
    position = {LABEL: 0, PROBABILITIES: 1, PREDICTION: 0, _SCORES: 1, _TRANSFORMED: 0}
    have = list(converted.graph.output)
    del converted.graph.output[:]
    converted.graph.output.extend(have[position[name]] for name in outputs)
    return converted


def _naming_missing(inputs: tuple[Column, ...], frame: pd.DataFrame) -> tuple[Column, ...]:
    """Every text column declares what stands for a missing one: the model knows such, the sample may not."""
    return tuple(
        c.model_copy(update={"missing": "\u2400" if (frame[c.name] == "").any() else ""})
        if c.dtype == "BYTES" and c.missing is None
        else c
        for c in inputs
    )


def _require_fitted(model: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not hasattr(model, "predict"):
        raise Invalid(
            f"This is {describe(model)}, which has no predict, so there is nothing to ask it.",
            "End the Pipeline with a model.",
        )
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise Invalid(f"This is {describe(model)} that is not fitted.", "Call .fit on it first.") from None


def _reads_names(model: Any) -> bool:
    """Whether some part of it picks columns by name."""
    return any(type(part).__name__ == "ColumnTransformer" for part in parts_of(model))


def _last_step(model: Any) -> Any:
    if hasattr(model, "best_estimator_"):
        return _last_step(model.best_estimator_)
    return _last_step(model.steps[-1][1]) if hasattr(model, "steps") else model


def _options(final: Any, outputs: Sequence[str]) -> dict[int, dict[str, bool]] | None:
    """Probabilities as a tensor. LinearSVC is asked for its default by name: skl2onnx trips over it otherwise."""
    plain = {"zipmap": False} if hasattr(final, "predict_proba") else {}
    if _SCORES in outputs:
        return {id(final): {"raw_scores": True, **plain}}
    if plain and (PROBABILITIES in outputs or LABEL in outputs):
        return {id(final): plain}
    return {id(final): {"raw_scores": False}} if type(final).__name__ == "LinearSVC" else None


def _know_boosters(model: Any) -> None:
    """Tell skl2onnx how to convert the boosters among the model's parts."""
    parts = list(parts_of(model))
    if any(from_package(part, "catboost") for part in parts):
        _register_catboost()
    if any(from_package(part, "lightgbm") for part in parts):
        _register("lightgbm", "LGBM", "LightGbm", "convert_lightgbm")
    if any(from_package(part, "xgboost") for part in parts):
        _register("xgboost", "XGB", "XGBoost", "convert_xgboost")


def _register(package: str, prefix: str, operator: str, function: str) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    library = importlib.import_module(package)
    operators = importlib.import_module(f"onnxmltools.convert.{package}.operator_converters.{operator}")
    shapes = {
        "Classifier": shape_calculator.calculate_linear_classifier_output_shapes,
        "Regressor": shape_calculator.calculate_linear_regressor_output_shapes,
    }
    options = {"Classifier": {"nocl": [True, False], "zipmap": [True, False, "columns"]}, "Regressor": {"split": None}}
    for kind, shape in shapes.items():
        update_registered_converter(
            getattr(library, f"{prefix}{kind}"),
            f"Themisto{prefix}{kind}",
            shape,
            getattr(operators, function),
            options=options[kind] if package == "lightgbm" or kind == "Classifier" else None,
        )


def _register_catboost() -> None:
    """CatBoost's own graph is one tree operator, which goes into the model's graph as it is."""
    from catboost import CatBoostClassifier, CatBoostRegressor
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    update_registered_converter(
        CatBoostClassifier,
        "ThemistoCatBoostClassifier",
        shape_calculator.calculate_linear_classifier_output_shapes,
        _convert_catboost,
        parser=_parse_catboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    update_registered_converter(
        CatBoostRegressor,
        "ThemistoCatBoostRegressor",
        shape_calculator.calculate_linear_regressor_output_shapes,
        _convert_catboost,
    )


def _parse_catboost(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Label and probabilities: skl2onnx takes a CatBoostClassifier for no classifier."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    operator = scope.declare_local_operator("ThemistoCatBoostClassifier", model)
    operator.inputs = inputs
    text = model.classes_.dtype.kind in "OUS"
    operator.outputs.append(scope.declare_local_variable(LABEL, StringTensorType() if text else Int64TensorType()))
    operator.outputs.append(scope.declare_local_variable(PROBABILITIES, FloatTensorType()))
    return operator.outputs


def _convert_catboost(scope: Any, operator: Any, container: Any) -> None:
    from onnx import helper

    from themisto.serving.exporters.catboost import tree_graph

    (trees,) = tree_graph(operator.raw_operator).graph.node
    container.add_node(
        trees.op_type,
        [operator.inputs[0].full_name],
        [output.full_name for output in operator.outputs],
        op_domain="ai.onnx.ml",
        name=scope.get_unique_operator_name(trees.op_type),
        **{attribute.name: helper.get_attribute_value(attribute) for attribute in trees.attribute},
    )
