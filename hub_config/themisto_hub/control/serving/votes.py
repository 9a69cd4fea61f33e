"""Votes: the answers of a step as counts of two releases, one vote a key.

Requests are shared by key: who is a key's customer always meets the same release. So the key is what chance
assigns, and a key's first answer in a step is its vote; answers without a key are a vote each. A customer
who sends a thousand odd requests is one vote, not a thousand.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from themisto.serving.models import Column, Signature
from themisto.serving.verdict import Share

__all__ = ["Answer", "Arm", "Cell", "Counts", "Pair", "Votes", "watched"]

Arm = Literal["candidate", "stable"]

BASELINE = 200
"""Answers of stable that fix what is slow and the bins of the outputs."""
OUTAGE = 20
"""Answers of the candidate in a row that its server failed: nobody needs statistics for that."""
_MOST_KEYS = 200_000
_CLASSES = 10
_DISTINCT = 100
_WORDS = 60
_GRPC_SERVER = frozenset({2, 4, 13, 14, 15})
"""UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS."""
_ENVOY_SERVER = frozenset({"UF", "UO", "UH", "URX", "UT", "UC", "UR", "UPE"})
"""Envoy's response flags that speak of what lies behind it, not of the caller."""


class Answer(NamedTuple):
    """One line of the prediction log, as far as the analysis needs it. `time` is of the request's start."""

    time: datetime
    arm: Arm
    key: str | None
    protocol: str
    status: int | None
    flags: str | None
    fallback: str | None
    latency_ms: float
    outputs: str | None

    @property
    def failed(self) -> bool | None:
        """True where the release or its server failed; None where it is the caller's doing, which tells nothing."""
        flags = set((self.flags or "").split(","))
        if self.fallback or flags & _ENVOY_SERVER:
            return True
        if self.status is None:
            return None
        if self.protocol == "grpc":
            return True if self.status in _GRPC_SERVER else (False if self.status == 0 else None)
        return True if self.status >= 500 else (False if 200 <= self.status < 300 else None)


class Cell(NamedTuple):
    """One class or bin of an output, and how often it was the answer."""

    words: str
    candidate: Share
    stable: Share


class Pair(NamedTuple):
    """One rate at both releases."""

    candidate: Share
    stable: Share


class Counts(NamedTuple):
    """All that a verdict is made of.

    slow: None until stable's baseline has fixed `slow_ms`, the larger of its p99 and the release's own goal.
    outputs: by output, its classes or bins; none where stable's baseline tells nothing.
    failing_in_a_row: the candidate's latest requests that failed, whoever sent them.
    """

    errors: Pair
    slow: Pair | None
    slow_ms: float
    outputs: dict[str, list[Cell]]
    failing_in_a_row: int


class _Output:
    """The distribution of one output, in cells that stable's baseline fixes."""

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self._last = (column.shape or (1,))[0] - 1
        self._numbers = column.dtype in ("FP32", "FP64")
        self.cells: list[str] = []
        self._cuts: list[float] = []
        self._classes: dict[object, int] = {}
        self.votes: dict[Arm, Counter[int]] = {"candidate": Counter(), "stable": Counter()}

    def value(self, outputs: dict[str, Any]) -> object:
        """The first row's; of a pair (two classes' probabilities) the second. Raises where there is none."""
        value: object = outputs[self.name][self._last]
        if isinstance(value, list | dict):
            raise TypeError(self.name)
        return value

    def fix(self, values: Sequence[object]) -> None:
        """Bins by stable's deciles, or its most frequent classes. Few different numbers tell nothing: no cells."""
        if not self._numbers:
            known = [value for value, _ in Counter(v for v in values if v is not None).most_common(_CLASSES)]
            self._classes = {value: index for index, value in enumerate(known)}
            self.cells = [f"answers {value!r:.{_WORDS}}" for value in known] + ["answers anything else"]
            return
        numbers = sorted(float(v) for v in values if isinstance(v, int | float))
        if len(set(numbers)) < _DISTINCT:
            return
        self._cuts = sorted({numbers[len(numbers) * tenth // 10] for tenth in range(1, 10)})
        ends = ["", *(f"{cut:.4g}" for cut in self._cuts), ""]
        self.cells = [_between(low, high) for low, high in pairwise(ends)] + ["is missing"]

    def vote(self, arm: Arm, value: object) -> None:
        if not self.cells:
            return
        if not self._numbers:
            cell = self._classes.get(value, len(self.cells) - 1)
        elif isinstance(value, int | float) and math.isfinite(value):
            cell = bisect_right(self._cuts, float(value))
        else:
            cell = len(self.cells) - 1
        self.votes[arm][cell] += 1

    def counted(self) -> list[Cell]:
        totals = {arm: votes.total() for arm, votes in self.votes.items()}
        return [
            Cell(
                words,
                Share(hits=self.votes["candidate"][index], of=totals["candidate"]),
                Share(hits=self.votes["stable"][index], of=totals["stable"]),
            )
            for index, words in enumerate(self.cells)
        ]


class Votes:
    """Counts of one step. Answers are taken in once each, oldest first."""

    def __init__(self, outputs: Iterable[Column], *, slo_p99_ms: float = 0.0) -> None:
        self._slo_p99_ms = slo_p99_ms
        self._keys: dict[Arm, set[int]] = {"candidate": set(), "stable": set()}
        self._failed: dict[Arm, list[int]] = {"candidate": [0, 0], "stable": [0, 0]}
        self._slow: dict[Arm, list[int]] = {"candidate": [0, 0], "stable": [0, 0]}
        self._outputs = [_Output(column) for column in outputs]
        self._baseline: list[Answer] = []
        self._slow_ms: float | None = None
        self._failing_in_a_row = 0

    def take_baseline(self, answers: Iterable[Answer]) -> None:
        """Answers of stable from before the step, or its first ones in it: they are not counted again."""
        self._baseline += [answer for answer in answers if answer.failed is False]
        if self._slow_ms is None and len(self._baseline) >= BASELINE:
            times = sorted(answer.latency_ms for answer in self._baseline)
            self._slow_ms = max(times[len(times) * 99 // 100], self._slo_p99_ms)
            for output in self._outputs:
                output.fix([_value(output, answer.outputs) for answer in self._baseline if answer.outputs])
            self._baseline = []

    def count(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._count(answer)

    def _count(self, answer: Answer) -> None:
        failed = answer.failed
        if failed is None:
            return
        arm = answer.arm
        if arm == "candidate":
            self._failing_in_a_row = self._failing_in_a_row + 1 if failed else 0
        if not self._has_vote(arm, answer.key):
            return
        self._failed[arm][0] += failed
        self._failed[arm][1] += 1
        if failed:
            return
        if self._slow_ms is None:  # a rule that looks at nothing but the past, so that the counts after it stay fair
            if arm == "stable":
                self.take_baseline([answer])
            return
        self._slow[arm][0] += answer.latency_ms > self._slow_ms
        self._slow[arm][1] += 1
        if answer.outputs is not None:
            for output in self._outputs:
                output.vote(arm, _value(output, answer.outputs))

    def _has_vote(self, arm: Arm, key: str | None) -> bool:
        if not key:
            return True
        seen, digest = self._keys[arm], hash(key)
        if digest in seen or len(seen) >= _MOST_KEYS:
            return False
        seen.add(digest)
        return True

    def counts(self) -> Counts:
        return Counts(
            errors=_pair(self._failed),
            slow=None if self._slow_ms is None else _pair(self._slow),
            slow_ms=self._slow_ms or 0.0,
            outputs={output.name: output.counted() for output in self._outputs if output.cells},
            failing_in_a_row=self._failing_in_a_row,
        )


def _pair(counted: dict[Arm, list[int]]) -> Pair:
    return Pair(*(Share(hits=counted[arm][0], of=counted[arm][1]) for arm in ("candidate", "stable")))


def watched(candidate: Signature, stable: Signature) -> list[Column]:
    """Outputs whose distributions are compared: of both releases the same, one value or a pair a row, at most two."""
    return [c for c in candidate.outputs if c in stable.outputs and c.shape in ((), (1,), (2,))][:2]


def _value(output: _Output, outputs: str | None) -> object:
    try:
        return output.value(json.loads(outputs or "{}"))
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _between(low: str, high: str) -> str:
    if low and high:
        return f"from {low} to {high}"
    return f"from {low}" if low else f"below {high}"
