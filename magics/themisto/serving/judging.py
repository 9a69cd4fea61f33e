"""Judging: gates decided on the answers of a candidate and, where a gate names it, of the champion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from themisto.errors import Invalid
from themisto.serving.gates import METRICS, MIN_SLICE, Gate, Slice, Verdict, parse
from themisto.serving.metrics import Answered

__all__ = ["MAX_SLICES", "judge", "may_be_chance"]

MAX_SLICES = 200
"""Distinct values of one `by` column; a column with more names people, not groups."""

_KEPT_SLICES = 100
_RESAMPLES = 200
_DRAWN = 20_000
_CHANCE = 0.01

NO_CHAMPION = "the first release has no champion"


def judge(
    gates: Sequence[str], candidate: Answered, champion: Answered | None, *, no_champion: str = NO_CHAMPION
) -> tuple[Verdict, ...]:
    """A verdict for each gate, in order.

    no_champion: why a gate against the champion is skipped where there is none.
    A gate whose measure is not defined on the candidate's or the champion's rows does not pass: the
    verdict says why. Raises Invalid for a `by` column with more than MAX_SLICES values.
    """
    return tuple(_verdict(parse(gate), candidate, champion, no_champion) for gate in gates)


def may_be_chance(text: str, candidate: Answered, champion: Answered | None) -> bool:
    """Whether the rows at hand are too few to say that a gate is not held.

    The percentile bootstrap (Efron 1979): rows are drawn anew 200 times, from each side by itself; if the gate
    holds in over 1 % of the draws, or cannot be computed in them, it may be. A draw has at most 20,000 rows,
    which errs towards chance. The same rows give the same answer.
    """
    gate, rng, held = parse(text), np.random.default_rng(0), 0
    for _ in range(_RESAMPLES):
        ours = _redrawn(candidate, rng)
        theirs = _redrawn(champion, rng) if champion is not None else None
        try:
            value, _where = _measured(gate, ours, _slices(gate, ours) if gate.over != "rows" else ())
            best = None
            if gate.champion and theirs is not None:
                best, _where = _measured(gate, theirs, _slices(gate, theirs) if gate.over != "rows" else ())
            held += gate.holds(value, gate.limit(best))
        except Invalid:
            held += 1
        if held > _CHANCE * _RESAMPLES:
            return True
    return False


def _redrawn(answers: Answered, rng: np.random.Generator) -> Answered:
    return answers.take(rng.integers(0, len(answers), min(len(answers), _DRAWN)))


def _verdict(gate: Gate, candidate: Answered, champion: Answered | None, no_champion: str) -> Verdict:
    if gate.champion and champion is None:
        return Verdict(gate=str(gate), passed=None, says=f"skipped: {no_champion}")
    slices = _slices(gate, candidate)
    try:
        value, where = _measured(gate, candidate, slices)
    except Invalid as error:
        says = f"{gate.measure} cannot be judged: {error.detail}"
        return Verdict(gate=str(gate), passed=False, says=says, slices=slices[:_KEPT_SLICES])
    best: float | None = None
    if gate.champion and champion is not None:
        try:
            best, _ = _measured(gate, champion, _slices(gate, champion))
        except Invalid as error:
            says = f"{gate.measure} of the champion cannot be judged: {error.detail}"
            return Verdict(gate=str(gate), passed=False, says=says, value=value, slices=slices[:_KEPT_SLICES])
    limit = gate.limit(best)
    passed = gate.holds(value, limit)
    against = f" (champion {best:.6g})" if best is not None else ""
    if not passed and gate.over == "rows" and slices and slices[0].metric is not None:
        where = f" (worst at {_named(slices[0])}: {slices[0].metric:.6g})"
    says = f"{gate.measure} is {value:.6g}{where}, {'as asked' if passed else 'not'} {gate.op} {limit:.6g}{against}"
    return Verdict(
        gate=str(gate), passed=passed, says=says, value=value, champion=best, limit=limit, slices=slices[:_KEPT_SLICES]
    )


def _measured(gate: Gate, answers: Answered, slices: Sequence[Slice]) -> tuple[float, str]:
    """The gate's measure, and in words the slice that made it. Raises Invalid where it is not defined."""
    if gate.over == "rows":
        return answers.metric(gate.metric), ""
    judged = [s for s in slices if s.metric is not None]
    if not answers.by:
        raise Invalid("no column to slice by is named.", "Name one with --by COLUMN.")
    if not judged:
        raise Invalid(f"no slice has {MIN_SLICE} rows on which it is defined.", "Give more rows, or coarser slices.")
    if gate.over == "gap":
        return _gap(judged)
    worst = (min if gate.over == "min_slice" else max)(judged, key=_metric)
    return _metric(worst), f" at {_named(worst)} ({worst.rows:,} rows)"


def _gap(judged: Sequence[Slice]) -> tuple[float, str]:
    """The largest difference between two slices of one column."""
    pairs = []
    for column in dict.fromkeys(s.column for s in judged):
        ordered = sorted((s for s in judged if s.column == column), key=_metric)
        if len(ordered) > 1:
            pairs.append((_metric(ordered[-1]) - _metric(ordered[0]), ordered[0], ordered[-1]))
    if not pairs:
        raise Invalid("no column has two slices to compare.", "Give more rows, or coarser slices.")
    gap, low, high = max(pairs, key=lambda pair: pair[0])
    return gap, f" between {_named(low)} ({_metric(low):.4g}) and {_named(high)} ({_metric(high):.4g})"


def _slices(gate: Gate, answers: Answered) -> tuple[Slice, ...]:
    """The metric on each slice, the worst first, then those that are not judged."""
    found = [
        _slice(gate, answers, column, value)
        for column, values in answers.by.items()
        for value in _distinct(column, values)
    ]
    sign = 1.0 if METRICS[gate.metric].higher_is_better else -1.0
    found.sort(key=lambda s: (s.metric is None, sign * (s.metric or 0.0), s.column, s.value))
    return tuple(found)


def _distinct(column: str, values: np.ndarray) -> list[str]:  # type: ignore[type-arg]
    distinct = sorted({str(value) for value in values})
    if len(distinct) > MAX_SLICES:
        raise Invalid(
            f"'{column}' has {len(distinct):,} values; slices are by at most {MAX_SLICES}.",
            f"Give it coarser, for example pd.cut(df['{column}'], 5).astype(str).",
        )
    return distinct


def _slice(gate: Gate, answers: Answered, column: str, value: str) -> Slice:
    rows = np.asarray(answers.by[column]).astype(str) == value
    count = int(rows.sum())
    shown = value[:100] or "(missing)"
    if count < MIN_SLICE:
        return Slice(column=column, value=shown, rows=count, note=f"under {MIN_SLICE} rows: not judged")
    try:
        return Slice(column=column, value=shown, rows=count, metric=answers.metric(gate.metric, rows))
    except Invalid as error:
        return Slice(column=column, value=shown, rows=count, note=f"not judged: {error.detail}")


def _metric(one: Slice) -> float:
    assert one.metric is not None
    return one.metric


def _named(one: Slice) -> str:
    return f"{one.column}={one.value}"
