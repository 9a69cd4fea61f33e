"""Intervals: the difference of two means or of two shares, and how sure it is."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = ["CONFIDENCE", "Interval", "Mean", "by_t", "clustered", "newcombe", "welch"]

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A difference and between which values it lies, at the confidence that was asked for."""

    difference: float
    low: float
    high: float


def welch(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], confidence: float = CONFIDENCE) -> Interval:
    """Mean of `a` minus mean of `b`."""
    return by_t(
        Mean(float(a.mean()), float(a.var(ddof=1)) / len(a), len(a)),
        Mean(float(b.mean()), float(b.var(ddof=1)) / len(b), len(b)),
        confidence,
    )


def newcombe(hits: int, n: int, hits_before: int, n_before: int, confidence: float = CONFIDENCE) -> Interval:
    """The share `hits / n` minus the share `hits_before / n_before`."""
    p, low, high = _wilson(hits, n, confidence)
    q, low_before, high_before = _wilson(hits_before, n_before, confidence)
    return Interval(p - q, p - q - math.hypot(p - low, high_before - q), p - q + math.hypot(high - p, q - low_before))


def _wilson(hits: int, n: int, confidence: float) -> tuple[float, float, float]:
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return p, (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


class Mean(NamedTuple):
    """A mean, how sure it is, and of how many independent values."""

    value: float
    variance: float
    """Of the mean."""
    n: int


def clustered(values: pd.Series[Any], clusters: pd.Series[Any]) -> Mean:
    """The mean over all values; its variance from the sums of whole clusters, linearised."""
    sums = values.astype(float).groupby(clusters.to_numpy()).agg(["sum", "count"])
    mean, k = float(sums["sum"].sum() / sums["count"].sum()), len(sums)
    left = sums["sum"] - mean * sums["count"]
    return Mean(mean, float(k / (k - 1) * (left**2).sum() / sums["count"].sum() ** 2), k)


def by_t(a: Mean, b: Mean, confidence: float) -> Interval:
    """The difference of two means by Welch's t, with Satterthwaite's degrees of freedom."""
    from scipy import stats

    difference, variance = a.value - b.value, a.variance + b.variance
    if variance == 0:
        return Interval(difference, difference, difference)
    freedom = variance**2 / (a.variance**2 / (a.n - 1) + b.variance**2 / (b.n - 1))
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * math.sqrt(variance)
    return Interval(difference, difference - half, difference + half)
