"""Analysis: from a step's counts to its verdict. Pure functions; the numbers that decide are all here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

from themisto.serving.verdict import Measured, Share, StepVerdict, Tolerated
from themisto_hub.control.serving.sequential import evidence
from themisto_hub.control.serving.votes import OUTAGE, Cell, Counts

__all__ = ["ALPHA", "BETA", "ENOUGH", "judge"]

ALPHA = 0.01
"""A rollout whose candidate is within what is tolerated goes back with at most this probability."""
BETA = 0.05
"""A candidate that is worse than tolerated in one respect is found fine in it with at most this probability a step."""
ENOUGH = 2000
"""Votes of the candidate after which a step passes unless a breach is shown."""
_ENOUGH_STABLE = 300
_ENOUGH_FOR_SHAPE = 50
"""Votes of the candidate before latency and outputs are judged: cold caches and a handful are no distribution."""
_METRICS = 3
_FINE = math.log(1 / BETA)


def judge(counts: Counts, tolerated: Tolerated, *, steps: int, day: int = 0, at: datetime) -> StepVerdict:
    """What the counts say.

    steps: how many steps the rollout is judged at.
    day: of a step that stays for days, each judged by itself, which one, from 0; a step judged whole is day 0.
    All steps and all their days together stay within ALPHA: 1/1² + 1/2² + 1/3² + … = pi²/6.
    """
    alpha = ALPHA / steps / _METRICS / ((day + 1) ** 2 * math.pi**2 / 6)
    errors = _measure(
        Measured(what="errors", candidate=counts.errors.candidate, stable=counts.errors.stable),
        tolerated.errors,
        alpha=alpha,
        expected=0.0,
    )
    measured = [errors]
    if counts.slow is not None:
        slow = Measured(
            what="slow",
            detail=f"over {counts.slow_ms:,.1f} ms",
            candidate=counts.slow.candidate,
            stable=counts.slow.stable,
        )
        measured.append(_measure(slow, tolerated.slow, alpha=alpha, expected=0.01, least=_ENOUGH_FOR_SHAPE))
    tests = sum(2 * len(cells) for cells in counts.outputs.values())
    measured += [_shape(name, cells, tolerated.outputs, alpha / tests) for name, cells in counts.outputs.items()]
    if counts.failing_in_a_row >= OUTAGE:
        words = f"the candidate's last {counts.failing_in_a_row:,} answers were all errors"
        return StepVerdict(finding="worse", words=words, at=at, measured=tuple(measured))
    worse = [m for m in measured if m.finding == "worse"]
    if worse:
        words = "; ".join(f"{m}; such a difference by chance: {_seldom(m.chance)}" for m in worse)
        return StepVerdict(finding="worse", words=words, at=at, measured=tuple(measured))
    whole = counts.slow is not None and bool(counts.outputs)
    enough = errors.candidate.of >= ENOUGH and errors.stable.of >= _ENOUGH_STABLE
    if enough or (whole and all(m.finding == "fine" for m in measured)):
        words = "; ".join(str(m) for m in measured)
        return StepVerdict(
            finding="fine", words=f"nothing worse than tolerated: {words}", at=at, measured=tuple(measured)
        )
    return StepVerdict(finding="open", words=_open(measured), at=at, measured=tuple(measured))


def _measure(
    measured: Measured, margin: float, *, alpha: float, expected: float | None = None, least: int = 1
) -> Measured:
    worse, fine = evidence(measured.candidate, measured.stable, margin, expected)
    if measured.candidate.of < least:
        return measured
    if worse >= math.log(1 / alpha):
        return measured.model_copy(update={"finding": "worse", "chance": _chance(worse)})
    return measured.model_copy(update={"finding": "fine" if fine >= _FINE else "open", "chance": _chance(worse)})


def _shape(name: str, cells: list[Cell], margin: float, alpha: float) -> Measured:
    """Of an output, the class or bin whose share differs most, up or down; fine where all are."""
    least = _ENOUGH_FOR_SHAPE
    every = [
        _measure(Measured(what=f"output {name}", detail=words, candidate=c, stable=s), margin, alpha=alpha, least=least)
        for words, c, s in _both_ways(cells)
    ]
    worst = min(every, key=lambda m: (m.finding != "worse", m.chance, -_gap(m)))
    if worst.finding == "fine" and any(m.finding == "open" for m in every):
        return worst.model_copy(update={"finding": "open"})
    return worst


def _both_ways(cells: list[Cell]) -> Iterator[Cell]:
    for words, candidate, stable in cells:
        yield Cell(words, candidate, stable)
        yield Cell(f"not: {words}", _rest(candidate), _rest(stable))


def _rest(share: Share) -> Share:
    return Share(hits=share.of - share.hits, of=share.of)


def _gap(measured: Measured) -> float:
    candidate, stable = measured.candidate, measured.stable
    return candidate.hits / max(candidate.of, 1) - stable.hits / max(stable.of, 1)


def _chance(ln_e: float) -> float:
    """Ville's inequality: evidence E or more comes up with probability 1/E at the most."""
    return math.exp(-max(ln_e, 0.0))


def _seldom(chance: float) -> str:
    if chance < 1e-9:
        return "less than once in a billion"
    return f"at most once in {round(1 / chance):,}"


def _open(measured: list[Measured]) -> str:
    errors = measured[0]
    left = ENOUGH - errors.candidate.of
    more = f"at most {left:,} more answers of the candidate" if left > 0 else "more answers of stable"
    if not errors.candidate.of and not errors.stable.of:
        return f"nobody has asked since this step began. To decide it takes {more}"
    return f"{'; '.join(str(m) for m in measured if m.candidate.of or m.stable.of)}. To decide it takes {more}"
