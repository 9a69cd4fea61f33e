"""Gates: what a release must reach on labelled rows before it gets traffic, in a language of one line.

    gate    = measure OP bound            OP is >= <= > or <
    measure = METRIC                      over all rows
            | min_slice(METRIC)           the lowest of the slices that `by` names
            | max_slice(METRIC)           the highest of them
            | gap(METRIC)                 the largest difference between two slices of one column
    bound   = NUMBER | champion | champion + NUMBER | champion - NUMBER | champion * NUMBER

`champion` is the same measure of the release that is stable now, on the same rows. Nothing else can be
written: text becomes a `Gate` or is refused with the nearest word, and is never run.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from themisto.errors import Invalid, did_you_mean
from themisto.types import Model, Sha256, Slug, UserName, UtcTime

__all__ = [
    "METRICS",
    "MIN_SLICE",
    "Cause",
    "Drift",
    "Gate",
    "GateResult",
    "GateText",
    "Metric",
    "Quality",
    "Retraining",
    "RetrainingRequest",
    "Slice",
    "Verdict",
    "parse",
]

MIN_SLICE = 30
"""Rows a slice must have to be judged: below, a metric says more about chance and single people than the model."""

Over = Literal["rows", "min_slice", "max_slice", "gap"]
Op = Literal[">=", "<=", ">", "<"]
Sign = Literal["+", "-", "*"]


class Metric(Model):
    """What a metric reads of a model's answers (any one of `reads`), and which way is better."""

    reads: tuple[str, ...]
    higher_is_better: bool = True


METRICS: Mapping[str, Metric] = {
    "auc": Metric(reads=("probabilities", "prediction")),
    "average_precision": Metric(reads=("probabilities", "prediction")),
    "ks": Metric(reads=("probabilities", "prediction")),
    "log_loss": Metric(reads=("probabilities",), higher_is_better=False),
    "brier": Metric(reads=("probabilities",), higher_is_better=False),
    "accuracy": Metric(reads=("label",)),
    "precision": Metric(reads=("label",)),
    "recall": Metric(reads=("label",)),
    "f1": Metric(reads=("label",)),
    "rmse": Metric(reads=("prediction",), higher_is_better=False),
    "mae": Metric(reads=("prediction",), higher_is_better=False),
    "mape": Metric(reads=("prediction",), higher_is_better=False),
    "r2": Metric(reads=("prediction",)),
}
"""By name; what each computes is in `themisto.serving.metrics`."""

_HOLDS: Mapping[Op, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_OVERS: Mapping[str | None, Over] = {None: "rows", "min_slice": "min_slice", "max_slice": "max_slice", "gap": "gap"}
_SIGNS: Mapping[str | None, Sign] = {None: "+", "+": "+", "-": "-", "*": "*"}
_EXAMPLE = "Write, for example, 'auc >= champion - 0.005' or 'min_slice(recall) >= 0.6'."
_MAX = 200
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_GATE = re.compile(r"\s*(?P<measure>[^<>=]*?)\s*(?P<op>[<>=!]+)\s*(?P<bound>[^<>=]*?)\s*\Z")
_MEASURE = re.compile(r"(?:(?P<over>\w+)\s*\(\s*(?P<inner>\w+)\s*\)|(?P<plain>\w+))\Z")
_BOUND = re.compile(
    rf"(?:(?P<number>[-+]?{_NUMBER})|(?P<word>[a-zA-Z_]\w*)(?:\s*(?P<sign>[-+*])\s*(?P<by>{_NUMBER}))?)\Z"
)


class Gate(Model):
    """One condition, understood. `str(gate)` is its canonical text; parsing that gives the same gate."""

    metric: str
    over: Over = "rows"
    op: Op
    champion: bool = False
    sign: Sign = "+"
    number: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """The bound itself, or, against the champion, what is added, taken away or multiplied."""

    @property
    def measure(self) -> str:
        return self.metric if self.over == "rows" else f"{self.over}({self.metric})"

    @property
    def bound(self) -> str:
        if not self.champion:
            return _text(self.number)
        neutral = 1.0 if self.sign == "*" else 0.0
        return "champion" if self.number == neutral else f"champion {self.sign} {_text(self.number)}"

    def __str__(self) -> str:
        return f"{self.measure} {self.op} {self.bound}"

    def limit(self, champion: float | None) -> float:
        """The number to reach; `champion` is the champion's measure where the gate names it."""
        if not self.champion:
            return self.number
        if champion is None:
            raise ValueError("a gate against the champion needs the champion's measure")
        if self.sign == "*":
            return champion * self.number
        return champion + self.number if self.sign == "+" else champion - self.number

    def holds(self, value: float, limit: float) -> bool:
        """Whether `value` is on the right side of `limit`; NaN never is."""
        return _HOLDS[self.op](value, limit)


def parse(text: str) -> Gate:
    """The gate that `text` writes. Raises Invalid, naming the nearest metric or word.

    >>> str(parse("auc>=champion-.005"))
    'auc >= champion - 0.005'
    """
    shape = _GATE.match(text) if len(text) <= _MAX else None
    if shape is None or shape["op"] not in _HOLDS:
        raise Invalid(f"'{text[:_MAX]}' is no gate: it needs a metric, one of >= <= > < and a bound.", _EXAMPLE)
    over, metric = _measure(shape["measure"])
    champion, sign, number = _bound(shape["bound"])
    gate = Gate(metric=metric, over=over, op=shape["op"], champion=champion, sign=sign, number=number)
    if champion and gate.op[0] != (">" if _higher_is_better(gate) else "<"):
        way = "higher" if _higher_is_better(gate) else "lower"
        raise Invalid(
            f"'{gate}' would refuse every release that is better than the champion: {way} {gate.measure} is better.",
            f"Turn it round: '{gate.measure} {'>=' if way == 'higher' else '<='} {gate.bound}'.",
        )
    return gate


def _measure(text: str) -> tuple[Over, str]:
    found = _MEASURE.match(text)
    if found is None:
        raise Invalid(f"'{text}' is no measure: a metric, or min_slice, max_slice or gap of one.", _EXAMPLE)
    over = _OVERS.get(found["over"])
    if over is None:
        raise Invalid(f"There is no '{found['over']}(…)'.", _near(found["over"], [o for o in _OVERS if o]))
    metric = found["inner"] or found["plain"]
    if metric not in METRICS:
        raise Invalid(f"There is no metric '{metric}'.", _near(metric, METRICS))
    return over, metric


def _bound(text: str) -> tuple[bool, Sign, float]:
    found = _BOUND.match(text)
    if found is None:
        raise Invalid(f"'{text}' is no bound: a number, or champion with one number added or multiplied.", _EXAMPLE)
    if found["word"] not in (None, "champion"):
        raise Invalid(f"'{found['word']}' is nothing to compare with.", _near(found["word"], ("champion",)))
    number = float(found["number"] or found["by"] or 0.0)
    if not math.isfinite(number):
        raise Invalid(f"'{text}' is larger than any number.", _EXAMPLE)
    return found["word"] is not None, _SIGNS[found["sign"]], number


def _higher_is_better(gate: Gate) -> bool:
    return gate.over != "gap" and METRICS[gate.metric].higher_is_better


def _near(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    return did_you_mean(word.lower(), known, f"There are: {', '.join(known)}.", cutoff=0.5)


def _text(number: float) -> str:
    return repr(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def _canonical(text: str) -> str:
    try:
        return str(parse(text))
    except Invalid as error:
        raise ValueError(str(error)) from None


GateText = Annotated[str, AfterValidator(_canonical)]
"""A gate as people write it, kept in its canonical text."""


class Quality(Model):
    """What must be reached, and on which rows: part of a release, and what an endpoint may pin for all of them."""

    gates: Annotated[tuple[GateText, ...], Field(min_length=1, max_length=20)]
    holdout_sha256: Sha256
    """Of the stored Parquet file."""
    rows: PositiveInt
    label: Annotated[str, Field(min_length=1, max_length=200)]
    by: Annotated[tuple[str, ...], Field(max_length=5)] = ()


class Slice(Model):
    """The rows with one value of a `by` column. `metric` is None where it is not judged; `note` says why."""

    column: str
    value: str
    rows: int
    metric: float | None = None
    note: str = ""


class Verdict(Model):
    """What one gate came to. `passed` is None where it was skipped."""

    gate: str
    passed: bool | None
    says: str
    value: float | None = None
    champion: float | None = None
    limit: float | None = None
    slices: tuple[Slice, ...] = ()


class GateResult(Verdict):
    """A verdict about a release, as it is kept.

    source: `holdout` before traffic, `labels` when the truth about its own answers became known.
    """

    release: PositiveInt
    champion_release: PositiveInt | None
    source: Literal["holdout", "labels"]
    pinned: bool
    holdout_sha256: Sha256 | None
    rows: int
    at: UtcTime


Cause = Literal["gate", "drift"]


class RetrainingRequest(Model):
    """The schedule to run by itself: when labels show that a gate is breached, or a monitor says drift."""

    schedule: Slug
    on: Annotated[tuple[Cause, ...], Field(min_length=1, max_length=2)] = ("gate",)
    cooldown_s: Annotated[int, Field(ge=600, le=90 * 86_400)] = 86_400


class Retraining(RetrainingRequest):
    """What an endpoint retrains by, and what last came of it."""

    set_by: UserName
    last_job: str | None = None
    last_at: UtcTime | None = None
    last_says: str = ""


class Drift(Model):
    """What a monitor saw, in words: `PSI of income is 0.31`."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
