"""Composites: calibrated, stacking, voting and threshold models as one graph of their parts' graphs.

skl2onnx converts each part; how the parts' answers become one is written here, as scikit-learn computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from themisto.errors import Invalid
from themisto.serving.exporter import describe
from themisto.serving.exporters.answers import LABEL, PREDICTION, PROBABILITIES
from themisto.serving.exporters.building import Building, Types
from themisto.serving.exporters.conversion import from_package

__all__ = ["Convert", "composite_in", "convert_composite"]

Convert = Callable[[Any, Types, Sequence[str]], onnx.ModelProto]
"""Converts one part: the model, its inputs, which of label, probabilities, prediction, scores it shall give."""

_SCORES = "scores"
_MATRIX = "features"


def composite_in(model: Any) -> bool:
    """Whether the model is one, or ends in one."""
    if hasattr(model, "steps"):
        return composite_in(model.steps[-1][1])
    if hasattr(model, "best_estimator_"):
        return composite_in(model.best_estimator_)
    return type(model).__name__ in _TOGETHER


def convert_composite(model: Any, types: Types, outputs: Sequence[str], convert: Convert) -> onnx.ModelProto:
    """The graph that answers `outputs` as the model does. Raises Invalid for what it does not know."""
    composing = _Composing(types, convert)
    found = composing.answer(model, {name: name for name, _ in types}, types, outputs)
    return composing.model(found)


class _Composing(Building):
    """A composite in the making: its parts' graphs, and what scikit-learn does with their answers."""

    def __init__(self, types: Types, convert: Convert) -> None:
        super().__init__(types)
        self._convert = convert

    def answer(self, model: Any, feeds: dict[str, str], types: Types, outputs: Sequence[str]) -> dict[str, str]:
        """The tensors of `outputs` of a model that is given `feeds`, input name to tensor."""
        if not composite_in(model):
            return self.embed(self._convert(model, types, outputs), feeds, outputs)
        if hasattr(model, "best_estimator_"):
            return self.answer(model.best_estimator_, feeds, types, outputs)
        if hasattr(model, "steps"):
            return self._pipeline(model, feeds, types, outputs)
        found = _TOGETHER[type(model).__name__](self, model, feeds, types)
        return {name: self._wanted(model, found, name) for name in outputs}

    def _wanted(self, model: Any, found: dict[str, str], name: str) -> str:
        if name not in found:
            raise Invalid(
                f"This is {describe(model)}, whose {name} cannot be exported here.", "Serve it with --native."
            )
        return found[name]

    def _pipeline(self, model: Any, feeds: dict[str, str], types: Types, outputs: Sequence[str]) -> dict[str, str]:
        from skl2onnx.common.data_types import FloatTensorType
        from sklearn.pipeline import Pipeline

        last = model.steps[-1][1]
        before = [step for step in model.steps[:-1] if step[1] not in (None, "passthrough")]
        if not before:
            return self.answer(last, feeds, types, outputs)
        matrix = self.embed(self._convert(Pipeline(before), types, ["matrix"]), feeds, ["matrix"])["matrix"]
        return self.answer(last, {_MATRIX: matrix}, [(_MATRIX, FloatTensorType([None, last.n_features_in_]))], outputs)

    # how scikit-learn puts the parts' answers together

    def _voting(self, model: Any, feeds: dict[str, str], types: Types) -> dict[str, str]:
        parts = [part for part in model.estimators_ if part != "drop"]
        weights = np.ones(len(parts)) if model.weights is None else np.asarray(model._weights_not_none, dtype=float)
        if model.voting == "soft":
            weighted = [
                self.times(self.answer(part, feeds, types, [PROBABILITIES])[PROBABILITIES], weight / weights.sum())
                for part, weight in zip(parts, weights, strict=True)
            ]
            probabilities = self.sum(weighted)
            return {LABEL: self.label(probabilities, model.classes_), PROBABILITIES: probabilities}
        votes = [
            self.times(self.one_hot(self.answer(part, feeds, types, [LABEL])[LABEL], len(model.classes_)), weight)
            for part, weight in zip(parts, weights, strict=True)
        ]
        return {LABEL: self.label(self.sum(votes), model.classes_)}

    def _voting_regressor(self, model: Any, feeds: dict[str, str], types: Types) -> dict[str, str]:
        parts = [part for part in model.estimators_ if part != "drop"]
        weights = np.ones(len(parts)) if model.weights is None else np.asarray(model._weights_not_none, dtype=float)
        weighted = [
            self.times(self.column(self.answer(part, feeds, types, [PREDICTION])[PREDICTION]), w / weights.sum())
            for part, w in zip(parts, weights, strict=True)
        ]
        return {PREDICTION: self.sum(weighted)}

    def _stacking(self, model: Any, feeds: dict[str, str], types: Types) -> dict[str, str]:
        from skl2onnx.common.data_types import FloatTensorType

        columns = [
            self._stacked(part, method, feeds, types)
            for part, method in zip(model.estimators_, model.stack_method_, strict=True)
        ]
        if model.passthrough:
            if len(types) != 1:
                raise Invalid("A stacking model that passes columns on by name cannot be exported.", "Use --native.")
            columns.append(feeds[types[0][0]])
        merged = self.op("Concat", columns, axis=1)
        final = model.final_estimator_
        shape = [(_MATRIX, FloatTensorType([None, final.n_features_in_]))]
        if not hasattr(model, "classes_"):
            return self.answer(final, {_MATRIX: merged}, shape, [PREDICTION])
        if not hasattr(final, "predict_proba"):
            label = self.answer(final, {_MATRIX: merged}, shape, [LABEL])[LABEL]
            return {LABEL: self.class_of(label, model.classes_)}
        found = self.answer(final, {_MATRIX: merged}, shape, [LABEL, PROBABILITIES])
        return {LABEL: self.class_of(found[LABEL], model.classes_), PROBABILITIES: found[PROBABILITIES]}

    def _stacked(self, part: Any, method: str, feeds: dict[str, str], types: Types) -> str:
        """The columns that one part adds: of two classes' probabilities the second alone."""
        if method == "predict_proba":
            found = self.answer(part, feeds, types, [PROBABILITIES])[PROBABILITIES]
            return self.at(found, 1) if len(part.classes_) == 2 else found
        if method == "decision_function":
            return self._scores(part, feeds, types)
        name = LABEL if hasattr(part, "classes_") else PREDICTION
        return self.column(self.op("Cast", [self.answer(part, feeds, types, [name])[name]], to=TensorProto.FLOAT))

    def _calibrated(self, model: Any, feeds: dict[str, str], types: Types) -> dict[str, str]:
        known: dict[int, str] = {}
        each = []
        for one in model.calibrated_classifiers_:
            if id(one.estimator) not in known:
                known[id(one.estimator)] = self._response(one.estimator, feeds, types)
            each.append(self._calibrate(one, known[id(one.estimator)]))
        probabilities = self.times(self.sum(each), 1.0 / len(each))
        return {LABEL: self.label(probabilities, model.classes_), PROBABILITIES: probabilities}

    def _calibrate(self, one: Any, response: str) -> str:
        two = len(one.classes) == 2
        columns = []
        for number, calibrator in enumerate(one.calibrators):
            scores = response if two else self.at(response, number)
            columns.append(self._calibrator(calibrator, scores))
        if two:
            first = self.op("Sub", [self.constant(np.array([1.0], np.float32)), columns[0]])
            return self.op("Concat", [first, columns[0]], axis=1)
        whole = self.op("Concat", columns, axis=1)
        total = self.op("ReduceSum", [whole, self.constant(np.array([1]))], keepdims=1)
        none = self.op("Equal", [total, self.constant(np.array([0.0], np.float32))])
        even = self.constant(np.array([1.0 / len(columns)], np.float32))
        return self.op("Where", [none, even, self.op("Div", [whole, total])])

    def _calibrator(self, calibrator: Any, scores: str) -> str:
        """Platt's sigmoid, or the line through isotonic regression's thresholds."""
        if hasattr(calibrator, "a_"):
            slope = self.constant(np.array([calibrator.a_], np.float32))
            moved = self.op(
                "Add", [self.op("Mul", [scores, slope]), self.constant(np.array([calibrator.b_], np.float32))]
            )
            return self.op("Sigmoid", [self.op("Neg", [moved])])
        x, y = np.asarray(calibrator.X_thresholds_, float), np.asarray(calibrator.y_thresholds_, float)
        if len(x) == 1:
            return self.op("Add", [self.times(scores, 0.0), self.constant(y[:1].astype(np.float32))])
        wide = self.op("Cast", [scores], to=TensorProto.DOUBLE)
        steps = np.diff(x)
        past = self.op("Sub", [wide, self.constant(x[:-1][None, :])])
        inside = self.op(
            "Min", [self.op("Max", [past, self.constant(np.zeros((1, 1)))]), self.constant(steps[None, :])]
        )
        risen = self.op("Mul", [inside, self.constant((np.diff(y) / steps)[None, :])])
        total = self.op("ReduceSum", [risen, self.constant(np.array([1]))], keepdims=1)
        return self.op("Cast", [self.op("Add", [total, self.constant(y[:1])])], to=TensorProto.FLOAT)

    def _threshold(self, model: Any, feeds: dict[str, str], types: Types) -> dict[str, str]:
        inner = model.estimator_
        label = model.pos_label if getattr(model, "pos_label", None) is not None else model.classes_[1]
        positive = int(np.flatnonzero(model.classes_ == label)[0])
        found = self.answer(inner, feeds, types, [PROBABILITIES])
        score = self.at(found[PROBABILITIES], positive)
        told = model.best_threshold_ if hasattr(model, "best_threshold_") else model.threshold
        limit = self.constant(np.array([0.5 if told == "auto" else told], np.float32))
        over = self.op("Cast", [self.op("GreaterOrEqual", [score, limit])], to=TensorProto.INT64)
        code = over if positive == 1 else self.op("Sub", [self.constant(np.array([1])), over])
        return {LABEL: self.class_of(code, model.classes_), PROBABILITIES: found[PROBABILITIES]}

    def _response(self, part: Any, feeds: dict[str, str], types: Types) -> str:
        """What calibration looks at: the decision function where there is one, else probabilities."""
        if callable(getattr(part, "decision_function", None)):
            return self._scores(part, feeds, types)
        found = self.answer(part, feeds, types, [PROBABILITIES])[PROBABILITIES]
        return self.at(found, 1) if len(part.classes_) == 2 else found

    def _scores(self, part: Any, feeds: dict[str, str], types: Types) -> str:
        """The decision function: one column for two classes."""
        if composite_in(part):
            raise Invalid(f"The decision function of {describe(part)} cannot be exported.", "Serve it with --native.")
        if from_package(_last(part), "lightgbm") and len(part.classes_) == 2:
            return self._logit(self.answer(part, feeds, types, [PROBABILITIES])[PROBABILITIES])
        found = self.answer(part, feeds, types, [_SCORES])[_SCORES]
        return self.at(found, -1) if len(part.classes_) == 2 else found

    def _logit(self, probabilities: str) -> str:
        """LightGBM's converter knows no raw scores: of two classes they are the logit of the probabilities."""
        least = self.constant(np.array([np.finfo(np.float32).tiny], np.float32))
        first, second = (self.op("Log", [self.op("Max", [self.at(probabilities, k), least])]) for k in (0, 1))
        return self.op("Sub", [second, first])


def _last(model: Any) -> Any:
    return _last(model.steps[-1][1]) if hasattr(model, "steps") else model


_TOGETHER: Mapping[str, Callable[[_Composing, Any, dict[str, str], Types], dict[str, str]]] = {
    "CalibratedClassifierCV": _Composing._calibrated,
    "StackingClassifier": _Composing._stacking,
    "StackingRegressor": _Composing._stacking,
    "VotingClassifier": _Composing._voting,
    "VotingRegressor": _Composing._voting_regressor,
    "FixedThresholdClassifier": _Composing._threshold,
    "TunedThresholdClassifierCV": _Composing._threshold,
}
