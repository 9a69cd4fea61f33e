"""The rates that docs/rollouts.md states are those of the analysis itself."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tests.unit.control.serving.simulation import EQUAL, TOLERATED, WORSE, simulate, table

from themisto.serving.models import Column
from themisto.serving.verdict import Share, Tolerated
from themisto_hub.control.serving.analysis import ALPHA, judge
from themisto_hub.control.serving.votes import Answer, Counts, Pair, Votes

DOCS = Path(__file__).resolve().parents[4] / "docs" / "rollouts.md"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def results():
    found = [simulate(case) for case in (*EQUAL, *TOLERATED, *WORSE)]
    print(f"\n{table(found)}")
    return {result.case: result for result in found}


def test_release_within_what_is_tolerated_seldom_goes_back_however_often_one_looks(results):
    for case in (*EQUAL, *TOLERATED):
        assert results[case].went_back <= ALPHA * case.rollouts, case.name


def test_release_as_good_as_stable_gets_to_all_traffic(results):
    for case in EQUAL:
        assert results[case].passed == case.rollouts, case.name


def test_release_that_is_clearly_worse_goes_back(results):
    for case in WORSE:
        assert results[case].went_back >= 0.8 * case.rollouts, case.name


def test_docs_show_these_rates(results):
    assert table(list(results.values())) in DOCS.read_text()


def test_all_steps_and_all_days_of_each_share_one_alpha():
    """What is found worse has less chance than its step and day have of ALPHA; all of these add up to it."""
    nothing = Pair(Share(hits=0, of=0), Share(hits=0, of=0))
    parts = {(steps, day): ALPHA / steps / 3 * 6 / math.pi**2 / (day + 1) ** 2 for steps in (1, 4) for day in range(60)}
    for (steps, day), part in parts.items():
        for failed in range(2, 20):
            errors = Pair(Share(hits=failed, of=100), Share(hits=0, of=1000))
            verdict = judge(Counts(errors, nothing, 10.0, {}, 0), Tolerated(), steps=steps, day=day, at=NOW)
            assert (verdict.finding == "worse") == (verdict.measured[0].chance <= part), (steps, day, failed)
    for steps in (1, 4):
        assert 0.98 * ALPHA < sum(3 * steps * part for (of, _), part in parts.items() if of == steps) < ALPHA


def sticky(seed: int, *, keyed: bool):
    """A rollout of two equal releases at 30 %, of 1,500 customers of very unequal size, each with habits of their own.

    One in a hundred customers sends what always fails, three in ten always get the answer 1.
    """
    random = np.random.default_rng(seed)
    customers, requests = 1500, 6000
    size = random.pareto(1.0, customers) + 0.01
    at_candidate, fails, yes = (random.random(customers) < share for share in (0.30, 0.01, 0.30))
    votes = Votes([Column(name="label", dtype="INT64")])
    findings = []
    for chunk in np.split(random.choice(customers, requests, p=size / size.sum()), 30):
        votes.count(
            Answer(
                NOW,
                "candidate" if at_candidate[who] else "stable",
                f"customer-{who}" if keyed else None,
                *("http", 500 if fails[who] else 200, None, None, 5.0, f'{{"label": [{int(yes[who])}]}}'),
            )
            for who in chunk
        )
        counts = votes.counts()._replace(failing_in_a_row=0)  # the test, not the outage's rule
        findings.append(judge(counts, Tolerated(), steps=2, at=NOW).finding)
    return "worse" in findings


def test_few_large_customers_cry_no_wolf_because_each_has_one_vote():
    assert sum(sticky(seed, keyed=True) for seed in range(40)) <= ALPHA * 40
    assert sum(sticky(seed, keyed=False) for seed in range(40)) > 10
