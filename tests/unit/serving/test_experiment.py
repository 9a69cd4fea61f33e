"""Effects of A/B splits, against what scipy 1.17 and statsmodels 0.14 say of the same numbers, and by simulation."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from themisto.errors import Conflict, Invalid, NotFound
from themisto.serving.experiment import effect, of_rollout
from themisto.serving.intervals import newcombe, welch
from themisto.serving.models import Endpoint
from themisto.serving.rollout import Rollout

A = np.array([5.1, 4.9, 6.2, 5.8, 6.0, 5.5, 7.1])
B = np.array([4.2, 5.0, 4.8, 5.1, 3.9])


def exposed(arms, *, keys=None, **change):
    """One request each, `arms` naming the release's number."""
    n = len(arms)
    log = pd.DataFrame(
        {
            "time": pd.date_range("2026-11-01", periods=n, freq="s", tz="UTC"),
            "request_id": [f"r{i}" for i in range(n)],
            "key": keys if keys is not None else [f"k{i}" for i in range(n)],
            "release": [f"credit@{arm}" for arm in arms],
            "status": 200,
            "fallback": None,
        }
    )
    return log.assign(**change)


def ask(log, metric, on="request_id", **options):
    return effect(log, metric, on=on, value="value", control="credit@1", treatment="credit@2", **options)


def test_welch_is_scipys():
    found = welch(A, B)
    assert found == pytest.approx((1.2, 0.38704501961890725, 2.0129549803810933))


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.05243147240236498, 0.33387265403690614),
        ((0, 10, 0, 20), -0.1611251580528194, 0.27753279986288926),
        ((9, 10, 3, 10), 0.1705227239345029, 0.809017973535488),
        ((10, 10, 0, 20), 0.6790860371419145, 1.0),
    ],
)
def test_newcombe_is_statsmodels(counts, low, high):
    assert newcombe(*counts)[1:] == pytest.approx((low, high))


def test_means_and_shares_choose_their_method():
    log = exposed([2] * 7 + [1] * 5)
    found = ask(log, pd.DataFrame({"request_id": log.request_id, "value": [*A, *B]}))
    assert (found.low, found.high) == pytest.approx((0.38704501961890725, 2.0129549803810933))
    assert "Welch" in found.method
    assert (found.treatment.values, found.control.values, found.unit) == (7, 5, "request")
    log = exposed([2] * 70 + [1] * 80)
    shares = [1] * 56 + [0] * 14 + [1] * 48 + [0] * 32
    found = ask(log, pd.DataFrame({"request_id": log.request_id, "value": shares}))
    assert (found.low, found.high) == pytest.approx((0.05243147240236498, 0.33387265403690614))
    assert "Newcombe" in found.method


def test_repeated_keys_are_clusters_as_in_statsmodels():
    """OLS with cov_type="cluster" without its correction says 1.09783738; ours has k / (k - 1) an arm."""
    y = [1, 2, 3, 2, 5, 4, 6, 3, 1, 0, 2, 4]
    keys = [f"k{k}" for k in (1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 6, 6)]
    log = exposed([2] * 6 + [1] * 6, keys=keys)
    found = ask(log, pd.DataFrame({"request_id": log.request_id, "value": y}))
    from scipy import stats

    def variance(values, clusters):
        left = pd.Series(values) - np.mean(values)
        return float((left.groupby(clusters).sum() ** 2).sum() / len(values) ** 2)

    a, b = variance(y[:6], [1, 1, 2, 2, 2, 3]), variance(y[6:], [4, 4, 5, 5, 6, 6])
    assert np.sqrt(a + b) == pytest.approx(1.09783738)
    a, b = a * 3 / 2, b * 3 / 2
    half = stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / 2 + b**2 / 2)) * np.sqrt(a + b)
    assert found.difference == pytest.approx(0.16666667)
    assert found.high - found.difference == pytest.approx(half)
    assert found.unit == "key"
    assert "clustered" in found.method


def test_by_key_the_first_release_it_met_counts():
    log = exposed([1, 2, 2, 1, 1, 2], keys=["a", "a", "b", "b", "c", "d"])
    metric = pd.DataFrame({"customer": ["a", "b", "c", "d"], "value": [1.0, 5.0, 2.0, 6.0]})
    found = ask(log, metric, on="customer")
    assert (found.control.mean, found.treatment.mean) == (1.5, 5.5)
    assert found.unit == "key"
    assert any("2 keys met more than one" in note for note in found.notes)


def test_requests_of_a_key_that_switched_stay_with_its_first_release():
    log = exposed([1, 2, 2, 2, 1, 1], keys=["a", "a", "b", "c", "d", "d"])
    metric = pd.DataFrame({"request_id": log.request_id, "value": [0.0, 100.0, 1.0, 2.0, 3.0, 4.0]})
    assert ask(log, metric).control.mean == pytest.approx((0 + 100 + 3 + 4) / 4)


def test_what_no_release_answered_is_no_exposure():
    log = exposed([1, 1, 2, 2, 2, 1])
    log.loc[4, "status"] = 503
    log.loc[5, "fallback"] = "default"
    found = ask(log, pd.DataFrame({"request_id": log.request_id, "value": range(6)}))
    assert (found.control.exposed, found.treatment.exposed) == (2, 2)
    assert any("2 requests without an answer" in note for note in found.notes)


HASHED, ENCRYPTED = "hmac-sha256:" + "ab" * 32, "aes-gcm:QUJDREVGR0hJSktM"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([HASHED] * 8, "does not hold them as they were sent"),
        (["k1", ENCRYPTED] * 4, "does not hold them as they were sent"),
        ([None] * 8, "holds no keys of 'credit'"),
    ],
)
def test_metric_by_a_key_that_the_log_does_not_hold_is_refused(keys, says):
    with pytest.raises((Conflict, NotFound), match=says) as told:
        of_a_rollout(exposed([1, 2] * 4, keys=keys), on="customer")
    assert "--on request_id" in told.value.remedy


def test_metric_by_request_holds_the_requests_of_a_hashed_key_together():
    found = of_a_rollout(exposed([1, 1, 2, 2] * 2, keys=[f"hmac-sha256:{i // 2:064x}" for i in range(8)]))
    assert (found.unit, found.control.exposed, found.treatment.exposed) == ("key", 2, 2)


def test_encrypted_keys_are_told_to_hold_nothing_together():
    found = of_a_rollout(exposed([1, 2] * 4, keys=[f"aes-gcm:{'QUJD' * 7}{i:04d}" for i in range(8)]))
    assert "keys encrypted" in " ".join(found.notes)


def of_a_rollout(log, on="request_id"):
    """The effect that is told of `log`, as it was pulled while credit@2 had half of the traffic."""

    class Pulled:
        def log(self, **_):
            return log

    at = datetime(2026, 11, 1, tzinfo=UTC)
    rollout = Rollout(
        id="01" * 13,
        endpoint="credit",
        release=2,
        strategy="ab",
        weight_pct=50,
        state="running",
        requested_by="scientist",
        created_at=at,
        updated_at=at,
    )
    endpoint = Endpoint(name="credit", group="data-science", tier="dev", stable=1, rollout=rollout, updated_at=at)
    ids = log["request_id" if on == "request_id" else "key"]
    metric = pd.DataFrame({on: ids, "value": range(len(log))})
    return of_rollout(Pulled(), endpoint, metric, on=on, value="value")


def test_an_uneven_split_is_told():
    """scipy.stats.chisquare([480, 520], [500, 500]) and ([30, 970], [50, 950])."""
    metric = pd.DataFrame({"request_id": [f"r{i}" for i in range(1000)], "value": np.arange(1000.0)})
    fair = ask(exposed([2] * 480 + [1] * 520), metric, share_pct=50)
    assert fair.srm_p == pytest.approx(0.20590321073206466)
    assert not fair.uneven
    assert ask(exposed([2] * 30 + [1] * 970), metric, share_pct=5).srm_p == pytest.approx(0.0037090099909748053)
    assert ask(exposed([2] * 400 + [1] * 600), metric, share_pct=50).uneven
    assert ask(exposed([2] * 400 + [1] * 600), metric).srm_p is None


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ({"request_id": ["r0"], "wrong": [1]}, "no column 'value'"),
        ({"id": ["r0"], "value": [1]}, "no column 'request_id'"),
        ({"request_id": ["r0", "r0"], "value": [1, 2]}, "more than once"),
        ({"request_id": ["r0", "r1"], "value": ["high", "low"]}, "no finite number"),
        ({"request_id": ["r0", "r1"], "value": [np.inf, 1]}, "no finite number"),
    ],
)
def test_metrics_that_do_not_fit_are_told(metric, says):
    with pytest.raises(Invalid, match=says):
        ask(exposed([1, 2]), pd.DataFrame(metric))


def test_too_few_values_are_told_with_what_is_there():
    with pytest.raises(NotFound, match=r"1 value of 'value' for credit@1.*4 are in it, 3 of them"):
        ask(exposed([1, 1, 2, 2]), pd.DataFrame({"request_id": ["r0", "r2", "r3"], "value": [1, 2, np.nan]}).fillna(3))


def test_no_variance_is_an_interval_without_width():
    found = ask(exposed([1, 1, 2, 2]), pd.DataFrame({"request_id": ["r0", "r1", "r2", "r3"], "value": [2, 2, 5, 5]}))
    assert (found.low, found.difference, found.high) == (3, 3, 3)


@pytest.mark.parametrize(("kind", "times"), [("means", 1000), ("shares", 1000), ("clustered", 200)])
def test_intervals_hold_the_truth_as_often_as_they_say(kind, times):
    """Experiments of 60 and 40 units: 95 %, within four standard errors of the simulation."""
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(times):
        if kind == "means":
            a, b = rng.exponential(2, 60) + 1, rng.normal(2, 3, 40)
            found, truth = welch(a, b), 1.0
        elif kind == "shares":
            a, b = rng.binomial(60, 0.3), rng.binomial(40, 0.1)
            found, truth = newcombe(a, 60, b, 40), 0.2
        else:
            found, truth = _clustered_experiment(rng), 0.5
        held += found.low <= truth <= found.high
    assert abs(held / times - 0.95) < 4 * np.sqrt(0.95 * 0.05 / times)


def _clustered_experiment(rng):
    """Keys with one to five requests that share most of their value: taken one by one, 95 % would hold 80 %."""
    counts = rng.integers(1, 6, 100)
    keys = np.repeat(np.arange(100), counts)
    arms = np.where(np.arange(100) < 60, 2, 1)[keys]
    values = rng.normal(0, 2, 100)[keys] + rng.normal(0, 0.5, len(keys)) + 0.5 * (arms == 2)
    log = exposed(arms, keys=[f"k{k}" for k in keys])
    return ask(log, pd.DataFrame({"request_id": log.request_id, "value": values}))
