"""Metrics: numbers about a model's answers beside the truth, by scikit-learn.

Binary metrics take the greater of the two classes as the positive one, as scikit-learn does; with more
classes, `auc` is one against the rest and, as precision, recall and f1, the plain mean over classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from themisto.errors import Invalid
from themisto.serving.classes import classes_in, kind_of, positions
from themisto.serving.exporters.answers import LABEL, PREDICTION, PROBABILITIES
from themisto.serving.gates import METRICS

__all__ = ["Answered", "require_outputs"]

Array = npt.NDArray[Any]
_MOST_CLASSES = 1000


def require_outputs(metric: str, outputs: Mapping[str, object] | tuple[str, ...]) -> str:
    """The output that `metric` reads. Raises Invalid where the model does not answer it."""
    for name in METRICS[metric].reads:
        if name in outputs:
            return name
    fit = [m for m, one in METRICS.items() if set(one.reads) & set(outputs)]
    need = " or ".join(f"'{name}'" for name in METRICS[metric].reads)
    raise Invalid(
        f"{metric} needs the output {need}; the model answers {', '.join(outputs)}.",
        f"Gate on {', '.join(fit)}." if fit else "Gates need a model that answers label, probabilities or prediction.",
    )


class Answered:
    """One model's answers to rows whose truth is known.

    truth: shape (rows,), classes or numbers. outputs: name to (rows, k), as the signature names them.
    by: name of a column to its values as text, for slices.
    """

    def __init__(self, truth: Array, outputs: Mapping[str, Array], by: Mapping[str, Array] | None = None) -> None:
        self.truth = np.asarray(truth)
        self.outputs = {name: _two_dimensional(np.asarray(array)) for name, array in outputs.items()}
        self.by = dict(by or {})

    def __len__(self) -> int:
        return len(self.truth)

    def metric(self, name: str, rows: Array | None = None) -> float:
        """The metric over all rows, or over those where the mask `rows` is set.

        Raises Invalid, in words, where it is not defined for them.
        """
        require_outputs(name, self.outputs)
        keep = np.ones(len(self), dtype=bool) if rows is None else rows
        if not keep.any():
            raise Invalid("There are no rows.", "Give rows with labels.")
        value = float(_COMPUTE[name](self, keep))
        if not np.isfinite(value):
            raise Invalid(f"{name} came to {value} on these rows.", "Look at the answers for extreme values.")
        return value

    def take(self, rows: Array) -> Answered:
        """Those rows, by position, again and again if need be; what the classes are stays."""
        taken = Answered(
            self.truth[rows],
            {name: array[rows] for name, array in self.outputs.items()},
            {name: values[rows] for name, values in self.by.items()},
        )
        if "classes" in self.__dict__:
            taken.__dict__["classes"] = self.classes
        return taken

    @cached_property
    def classes(self) -> list[Any]:
        """In order: those of the truth and of the model's labels."""
        found = classes_in(self.truth)
        if LABEL in self.outputs:
            known = classes_in(self.outputs[LABEL].reshape(-1))
            if known and found and isinstance(known[0], str) != isinstance(found[0], str):
                raise Invalid(
                    f"The label column holds {kind_of(found)}, the model answers {kind_of(known)}.",
                    "Give the label as the model was fitted on it.",
                )
            found = sorted({*found, *known})
        if len(found) > _MOST_CLASSES:
            raise Invalid(f"The label has {len(found):,} classes.", "Gate on rmse, mae, mape or r2.")
        return found

    @cached_property
    def actual(self) -> Array:
        """The truth as positions in `classes`."""
        return positions(self.truth, self.classes)

    @cached_property
    def chosen(self) -> Array:
        """The model's labels as positions in `classes`."""
        return positions(self.outputs[LABEL].reshape(-1), self.classes)

    @cached_property
    def scores(self) -> Array:
        """Probabilities as (rows, classes), or one column that ranks."""
        name = PROBABILITIES if PROBABILITIES in self.outputs else PREDICTION
        scores = self._finite(name)
        if name == PROBABILITIES and scores.shape[1] != max(2, len(self.classes)) and scores.shape[1] != 1:
            raise Invalid(
                f"The model has probabilities of {scores.shape[1]} classes; the rows show {len(self.classes)}.",
                "Give a hold-out in which every class occurs.",
            )
        return scores

    @property
    def positive(self) -> Array:
        """What ranks the positive class. Raises Invalid unless the truth has two classes."""
        if len(self.classes) != 2:
            many = "one class" if len(self.classes) == 1 else f"{len(self.classes)} classes"
            raise Invalid(
                f"It is defined for two classes; the label has {many}.",
                "Give rows of both classes." if many == "one class" else "Gate on auc, log_loss, accuracy or f1.",
            )
        return self.scores[:, -1]

    def both(self, rows: Array) -> Array:
        """The truth, 0 or 1, of rows in which both classes occur."""
        self._require_binary()
        actual = self.actual[rows]
        if actual.min() == actual.max():
            raise Invalid(
                f"Every row has the label {self.classes[int(actual[0])]}.",
                "It takes rows of both classes to tell how well they are told apart.",
            )
        return actual

    def _require_binary(self) -> None:
        _ = self.positive

    def numbers(self, rows: Array) -> tuple[Array, Array]:
        """Truth and prediction as numbers."""
        if self.truth.dtype.kind not in "biuf":
            raise Invalid("The label is text, not numbers.", "Gate on accuracy, f1 or auc, or give another label.")
        return self.truth.astype(np.float64)[rows], self._finite(PREDICTION)[:, 0][rows]

    def _finite(self, name: str) -> Array:
        try:
            array = self.outputs[name].astype(np.float64)
        except (TypeError, ValueError):
            raise Invalid(
                f"The output '{name}' is text, not numbers.", "Deploy a model that answers numbers."
            ) from None
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        if bad:
            raise Invalid(
                f"The model answers no finite number on {bad:,} of {len(array):,} rows.",
                "Mend the model or the rows: a missing value it cannot take is the usual cause.",
            )
        return array


def _two_dimensional(array: Array) -> Array:
    return array.reshape(-1, 1) if array.ndim == 1 else array


def _auc(answers: Answered, rows: Array) -> float:
    from sklearn.metrics import roc_auc_score

    if len(answers.classes) <= 2:
        return float(roc_auc_score(answers.both(rows), answers.positive[rows]))
    if METRICS["auc"].reads[0] not in answers.outputs:
        raise Invalid("One prediction cannot rank more than two classes.", "Deploy a model with probabilities.")
    actual = answers.actual[rows]
    one_hot = actual[:, None] == np.arange(len(answers.classes))
    if not (one_hot.any(axis=0) & ~one_hot.all(axis=0)).all():
        raise Invalid("Not every class occurs in these rows.", "Give rows of every class.")
    return float(roc_auc_score(one_hot, answers.scores[rows], average="macro"))


def _average_precision(answers: Answered, rows: Array) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(answers.both(rows), answers.positive[rows]))


def _ks(answers: Answered, rows: Array) -> float:
    """Kolmogorov-Smirnov: the largest distance between the two classes' distributions of the score."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(answers.both(rows), answers.positive[rows], drop_intermediate=False)
    return float(np.max(np.abs(true - false)))


def _log_loss(answers: Answered, rows: Array) -> float:
    from sklearn.metrics import log_loss

    scores = answers.scores[rows].clip(0, 1)
    if scores.shape[1] == 1:
        answers._require_binary()
        scores = np.hstack([1 - scores, scores])
    total = scores.sum(axis=1, keepdims=True)
    if (total <= 0).any():
        raise Invalid("Some probabilities sum to nothing.", "Mend the model.")
    return float(log_loss(answers.actual[rows], scores / total, labels=np.arange(scores.shape[1])))


def _brier(answers: Answered, rows: Array) -> float:
    answers._require_binary()
    return float(np.mean((answers.positive[rows].clip(0, 1) - answers.actual[rows]) ** 2))


def _accuracy(answers: Answered, rows: Array) -> float:
    return float(np.mean(answers.actual[rows] == answers.chosen[rows]))


def _of_label(name: str) -> Callable[[Answered, Array], float]:
    def compute(answers: Answered, rows: Array) -> float:
        from sklearn import metrics

        actual, chosen = answers.actual[rows], answers.chosen[rows]
        binary = len(answers.classes) <= 2
        if binary and name != "precision" and not (actual == 1).any():
            raise Invalid("No row has the positive class.", "Give rows in which it occurs.")
        average: dict[str, Any] = {"average": "binary", "pos_label": 1} if binary else {"average": "macro"}
        return float(getattr(metrics, f"{name}_score")(actual, chosen, zero_division=0, **average))

    return compute


def _rmse(answers: Answered, rows: Array) -> float:
    truth, prediction = answers.numbers(rows)
    return float(np.sqrt(np.mean((truth - prediction) ** 2)))


def _mae(answers: Answered, rows: Array) -> float:
    truth, prediction = answers.numbers(rows)
    return float(np.mean(np.abs(truth - prediction)))


def _mape(answers: Answered, rows: Array) -> float:
    truth, prediction = answers.numbers(rows)
    zeros = int((truth == 0).sum())
    if zeros:
        raise Invalid(f"{zeros:,} rows have the label 0, by which nothing can be divided.", "Gate on mae or rmse.")
    return float(np.mean(np.abs((truth - prediction) / truth)))


def _r2(answers: Answered, rows: Array) -> float:
    from sklearn.metrics import r2_score

    truth, prediction = answers.numbers(rows)
    if len(truth) < 2 or truth.min() == truth.max():
        raise Invalid("The label is the same in every row.", "Give rows in which it varies.")
    return float(r2_score(truth, prediction))


_COMPUTE: Mapping[str, Callable[[Answered, Array], float]] = {
    "auc": _auc,
    "average_precision": _average_precision,
    "ks": _ks,
    "log_loss": _log_loss,
    "brier": _brier,
    "accuracy": _accuracy,
    "precision": _of_label("precision"),
    "recall": _of_label("recall"),
    "f1": _of_label("f1"),
    "rmse": _rmse,
    "mae": _mae,
    "mape": _mape,
    "r2": _r2,
}
