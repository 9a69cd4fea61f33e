"""Sequential: is one rate worse than another by more than is tolerated? Evidence that may be looked at any time.

Universal inference (Wasserman, Ramdas, Balakrishnan 2020, PNAS 117:16880; as a test martingale: Ramdas,
Grünwald, Vovk, Shafer 2023, Statistical Science 38:576). The numerator is the probability that a fixed
mixture of rates gave to the answers of both releases, one by one; the denominator is the best that any pair
of rates within the hypothesis could have done. Under the hypothesis the ratio E is at most a non-negative
martingale that starts at 1, so by Ville's inequality P(E ever reaches 1/alpha) <= alpha: however often one
looks, whatever share of the traffic each release gets, and whenever one stops.
"""

from __future__ import annotations

import math

from themisto.serving.verdict import Share

__all__ = ["evidence"]

_STRENGTH = 200.0
"""Answers that the expectation of a rate is worth."""
_HALVINGS = 40


def evidence(candidate: Share, stable: Share, margin: float, expected: float | None = None) -> tuple[float, float]:
    """ln E against `p_candidate <= p_stable + margin`, and against `p_candidate >= p_stable + margin`.

    The first is evidence that the candidate is worse by more than `margin`, the second that it is not;
    at most one is above 0. `expected`: a rate, chosen before the data, around which both rates are
    thought to lie; where it is wrong the evidence needs ln 4 more, nothing else.

    >>> worse, fine = evidence(Share(hits=12, of=60), Share(hits=3, of=1140), margin=0.01, expected=0.0)
    >>> worse > math.log(600), fine < 0
    (True, True)
    >>> worse, fine = evidence(Share(hits=1, of=1000), Share(hits=19, of=19000), margin=0.01, expected=0.0)
    >>> worse < 0, fine > math.log(20)
    (True, True)
    """
    if not candidate.of or not stable.of:
        return -math.inf, -math.inf
    mixture = _marginal(candidate, expected) + _marginal(stable, expected)
    free = _best(candidate) + _best(stable)
    line = _best_at_distance(candidate, stable, margin)
    if candidate.hits / candidate.of > stable.hits / stable.of + margin:
        return mixture - line, mixture - free
    return mixture - free, mixture - line


def _marginal(share: Share, expected: float | None) -> float:
    """ln of the mean likelihood over Beta(1/2, 1/2), mixed half and half with a Beta around `expected`."""
    vague = _beta_marginal(share, 0.5, 0.5)
    if expected is None:
        return vague
    near = _beta_marginal(share, 0.5 + _STRENGTH * expected, 0.5 + _STRENGTH * (1 - expected))
    high, low = max(vague, near), min(vague, near)
    return high + math.log1p(math.exp(low - high)) - math.log(2)


def _beta_marginal(share: Share, a: float, b: float) -> float:
    return _ln_beta(share.hits + a, share.of - share.hits + b) - _ln_beta(a, b)


def _ln_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _best(share: Share) -> float:
    """ln likelihood at the rate that was seen."""
    return _ln_likelihood(share, share.hits / share.of)


def _ln_likelihood(share: Share, rate: float) -> float:
    missed = share.of - share.hits
    hit = share.hits * math.log(rate) if share.hits else 0.0
    return hit + (missed * math.log1p(-rate) if missed else 0.0)


def _best_at_distance(candidate: Share, stable: Share, margin: float) -> float:
    """ln likelihood of the best pair with `p_candidate = p_stable + margin`: concave, so its slope is halved."""
    hits, missed = candidate.hits, candidate.of - candidate.hits
    stable_hits, stable_missed = stable.hits, stable.of - stable.hits
    low, high = 0.0, 1.0 - margin
    for _ in range(_HALVINGS):
        rate = (low + high) / 2
        raised = rate + margin
        if hits / raised - missed / (1 - raised) + stable_hits / rate - stable_missed / (1 - rate) > 0:
            low = rate
        else:
            high = rate
    rate = (low + high) / 2
    return _ln_likelihood(candidate, rate + margin) + _ln_likelihood(stable, rate)
