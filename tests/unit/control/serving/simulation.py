"""Simulated rollouts through the analysis itself: how often it cries wolf, how soon it sees a wolf.

`python -m tests.unit.control.serving.simulation` prints the table of docs/rollouts.md.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from themisto.serving.verdict import Share, Tolerated
from themisto_hub.control.serving.analysis import ENOUGH, judge
from themisto_hub.control.serving.votes import Cell, Counts, Pair

_NOW = datetime(2026, 11, 1, tzinfo=UTC)
_STABLE = {"errors": 0.002, "slow": 0.01, "yes": 0.30}


class Case(NamedTuple):
    """Rates of the candidate that differ from stable's, and how the traffic comes.

    every: answers of the candidate between two looks; thin traffic is looked at more often than it comes.
    """

    name: str
    steps: tuple[int, ...] = (5, 30)
    every: int = 20
    rollouts: int = 100
    errors: float = _STABLE["errors"]
    slow: float = _STABLE["slow"]
    yes: float = _STABLE["yes"]


class Result(NamedTuple):
    """went_back, passed: how many of the rollouts. answers: what the candidate had answered by then, each."""

    case: Case
    went_back: int
    passed: int
    answers: list[int]

    @property
    def row(self) -> str:
        back, passed = (f"{n / self.case.rollouts:.1%}" for n in (self.went_back, self.passed))
        return f"| {self.case.name} | {back} | {passed} | {statistics.median(self.answers):,.0f} |"


EQUAL = (
    Case("the same as stable, thick traffic", rollouts=200),
    Case("the same as stable, thin traffic", every=5),
    Case("the same as stable, half of the traffic each", steps=(50,)),
)
TOLERATED = (
    Case("errors as many as tolerated (+1 point)", errors=_STABLE["errors"] + 0.01),
    Case("slow as often as tolerated (+5 points)", slow=_STABLE["slow"] + 0.05),
    Case("answers as different as tolerated (+10 points)", yes=_STABLE["yes"] + 0.10),
)
WORSE = (
    Case("errors 0.2 % → 3 %", errors=0.03),
    Case("errors 0.2 % → 5 %", errors=0.05),
    Case("errors 0.2 % → 20 %", errors=0.20),
    Case("slow 1 % → 15 %", slow=0.15),
    Case("slow 1 % → 100 %", slow=1.0),
    Case("answers yes 30 % → 50 %", yes=0.50),
    Case("answers yes 30 % → 80 %", yes=0.80),
)


def simulate(case: Case, seed: int = 20261101) -> Result:
    """All rollouts of a case."""
    random = np.random.default_rng(seed)
    ends = [_rollout(case, random) for _ in range(case.rollouts)]
    findings = [finding for finding, _ in ends]
    return Result(case, findings.count("worse"), findings.count("fine"), [answers for _, answers in ends])


def table(results: list[Result]) -> str:
    """As the docs show it."""
    head = "| the candidate | went back by itself | passed every step | its answers until then (median) |"
    return "\n".join([head, "|---|---|---|---|", *(result.row for result in results)])


def _rollout(case: Case, random: np.random.Generator) -> tuple[str, int]:
    answers = 0
    for step in case.steps:
        for of, counts in _looks(case, step, random):
            finding = judge(counts, Tolerated(), steps=len(case.steps), at=_NOW).finding
            if finding == "worse":
                return finding, answers + of
            if finding == "fine":
                answers += of
                break
        else:
            return "open", answers
    return "fine", answers


def _looks(case: Case, step: int, random: np.random.Generator) -> Iterator[tuple[int, Counts]]:
    """What each look of a step finds."""
    looks = ENOUGH // case.every
    came = np.full(looks, case.every)
    beside = random.poisson(case.every * (100 - step) / step, looks)
    rates = {"errors": case.errors, "slow": case.slow, "yes": case.yes}
    hits = {
        name: (np.cumsum(random.binomial(came, rates[name])), np.cumsum(random.binomial(beside, _STABLE[name])))
        for name in rates
    }
    candidate_of, stable_of = np.cumsum(came), np.cumsum(beside)
    for look in range(looks):
        of, others = int(candidate_of[look]), int(stable_of[look])
        pair = {
            name: Pair(Share(hits=int(mine[look]), of=of), Share(hits=int(theirs[look]), of=others))
            for name, (mine, theirs) in hits.items()
        }
        yes = pair["yes"]
        no = [Share(hits=share.of - share.hits, of=share.of) for share in yes]
        nothing = [Share(hits=0, of=share.of) for share in yes]
        cells = [Cell("answers 'no'", *no), Cell("answers 'yes'", *yes), Cell("answers anything else", *nothing)]
        yield of, Counts(pair["errors"], pair["slow"], 10.0, {"label": cells}, 0)


if __name__ == "__main__":
    print(table([simulate(case) for case in (*EQUAL, *TOLERATED, *WORSE)]))
