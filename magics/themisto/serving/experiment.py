"""Experiment: what an A/B split has done to a metric, with its confidence interval and a check of the split itself."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import computed_field

from themisto.errors import Conflict, Invalid, NotFound
from themisto.serving.intervals import CONFIDENCE, Interval, by_t, clustered, newcombe, welch
from themisto.serving.models import Endpoint
from themisto.serving.observing import MAX_REQUESTS, Observing
from themisto.serving.personal import is_ciphertext, is_covered, unreadable_keys
from themisto.serving.rollout import Rollout
from themisto.types import Model

__all__ = ["Arm", "Effect", "Span", "effect", "of_log", "of_rollout", "span"]

_SRM_P = 0.001
_ANSWERED = (200, 0)


class Arm(Model):
    """One release: how many units first met it, how many of them have a value, and their mean."""

    release: str
    exposed: int
    values: int
    mean: float


class Effect(Model):
    """`difference` is treatment's mean minus control's; with `confidence` it lies between `low` and `high`."""

    metric: str
    unit: str
    """What was counted: key, or request."""
    control: Arm
    treatment: Arm
    difference: float
    low: float
    high: float
    confidence: float
    method: str
    share_pct: int | None
    """Treatment's configured share of the traffic; None where it was not constant."""
    srm_p: float | None
    """Chance of a split at least so uneven, were the configured share true (chi-squared, one degree of freedom)."""
    notes: tuple[str, ...] = ()

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorator above a property
    @property
    def uneven(self) -> bool:
        """Whether the split is not what was configured: then the effect must not be believed."""
        return self.srm_p is not None and self.srm_p < _SRM_P

    @computed_field  # type: ignore[prop-decorator]  # the same
    @property
    def caution(self) -> str:
        """What must be read before the effect; empty where nothing stands against it."""
        if self.uneven:
            return "Sample ratio mismatch: something decides who meets which release. Do not use this effect."
        return "The interval holds 0: no effect is shown." if self.low <= 0 <= self.high else ""


class Span(NamedTuple):
    """The time in which a rollout's releases answered side by side; `until` None: they still do."""

    since: datetime
    until: datetime | None


def effect(
    exposures: pd.DataFrame,
    metric: pd.DataFrame,
    *,
    on: str,
    value: str,
    control: str,
    treatment: str,
    share_pct: int | None = None,
    confidence: float = CONFIDENCE,
) -> Effect:
    """The effect of `treatment` (`credit@8`) on the column `value` of `metric`.

    exposures: the log's time, request_id, key, release, status, fallback. A key belongs to the release that
        it met first, whatever answered it later; requests without a key stand for themselves.
    metric: one row for each request (`on="request_id"`) or each key (any other name of its column).

    Means are compared by Welch's t (unequal variances, Welch-Satterthwaite degrees of freedom); shares of
    0/1 values by Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10). Where
    keys have several requests with a value, these are not independent: the means are then ratios over
    keys with linearised variances (Deng et al., KDD 2018), compared by Welch's t over keys.

    Raises Invalid for a metric that does not fit, NotFound where an arm has fewer than two values.
    """
    units = _units(exposures, by_key=on != "request_id")
    values = _values(metric, on, value)
    met = units[units["arm"].isin([control, treatment])]
    joined = met.merge(values, left_on="id", right_on=on, how="inner", validate="one_to_one")
    arms = {name: joined[joined["arm"] == name] for name in (control, treatment)}
    for name, rows in arms.items():
        if rows["cluster"].nunique() < 2:
            raise NotFound(
                f"{len(rows)} value{'s' if len(rows) != 1 else ''} of '{value}' for {name}: two are needed at least.",
                f"Give a row for each {'request_id' if on == 'request_id' else 'key'} of the log "
                f"({len(met):,} are in it, {len(joined):,} of them in your frame).",
            )
    repeated = any(rows["cluster"].duplicated().any() for rows in arms.values())
    found, method = _compared(arms[treatment], arms[control], value, confidence, repeated=repeated)
    exposed = met.drop_duplicates("cluster")["arm"].value_counts()
    counts = {name: int(exposed.get(name, 0)) for name in (control, treatment)}
    left_out = len(values) - len(joined)
    return Effect(
        metric=value,
        unit="key" if on != "request_id" or repeated else "request",
        control=_arm(control, counts, arms[control], value),
        treatment=_arm(treatment, counts, arms[treatment], value),
        difference=found.difference,
        low=found.low,
        high=found.high,
        confidence=confidence,
        method=method,
        share_pct=share_pct,
        srm_p=_uneven(counts[treatment], counts[control], share_pct) if share_pct else None,
        notes=_notes(units, left_out=left_out, share_pct=share_pct),
    )


def of_rollout(
    observing: Observing,
    endpoint: Endpoint,
    metric: pd.DataFrame,
    *,
    on: str,
    value: str | None,
    since: str | datetime | None = None,
) -> Effect:
    """The effect of an endpoint's latest rollout, from the log of its time; see `of_log`."""
    began, ended = span(endpoint)
    log = observing.log(since=since or began, until=ended, limit=MAX_REQUESTS, bodies=False)
    return of_log(log, endpoint, metric, on=on, value=value)


def span(endpoint: Endpoint) -> Span:
    """Of the latest rollout. Raises Conflict where nothing was compared."""
    rollout = _compared_rollout(endpoint)
    return Span(rollout.created_at, None if rollout.state == "running" else rollout.updated_at)


def of_log(log: pd.DataFrame, endpoint: Endpoint, metric: pd.DataFrame, *, on: str, value: str | None) -> Effect:
    """The effect of an endpoint's latest rollout; `log` is of its `span`; see `effect`.

    control: whatever else answered most in that time. Raises Conflict where there was no rollout, and for keys
    that the log does not hold as they were sent.
    """
    rollout = _compared_rollout(endpoint)
    treatment = f"{endpoint.name}@{rollout.release}"
    others = log.loc[log["release"].notna() & (log["release"] != treatment), "release"]
    if others.empty or treatment not in set(log["release"]):
        raise NotFound(
            f"{treatment} and a release to compare it with must both have answered.",
            "Let callers ask first, with a share for each.",
        )
    if on != "request_id":
        _require_keys(endpoint.name, log)
    constant = rollout.strategy == "ab" and 0 < rollout.weight_pct < 100
    return effect(
        log,
        metric,
        on=on,
        value=value or _only_value(metric, on),
        control=str(others.mode().iloc[0]),
        treatment=treatment,
        share_pct=rollout.weight_pct if constant else None,
    )


def _require_keys(endpoint: str, log: pd.DataFrame) -> None:
    """A personal key meets no key of the metric's. Raises Conflict; NotFound where no request has one."""
    keys = log["key"].dropna()
    if any(is_covered(key) for key in keys):
        raise unreadable_keys(endpoint, "Give the metric by request_id, from %deploy log: --on request_id.")
    if keys.empty:
        raise NotFound(
            f"The log holds no keys of '{endpoint}': callers sent none, or they are personal and dropped.",
            "Give the metric by request_id, from %deploy log: --on request_id.",
        )


def _compared_rollout(endpoint: Endpoint) -> Rollout:
    rollout = endpoint.rollout
    if rollout is None or rollout.state in ("loading", "waiting_approval"):
        raise Conflict(f"Nothing of '{endpoint.name}' has been compared yet.", "Deploy a release with --ab 50.")
    return rollout


def _only_value(metric: Any, on: str) -> str:
    others = [str(c) for c in getattr(metric, "columns", ()) if c != on]
    if len(others) != 1:
        raise Invalid(
            f"The metric has {len(others)} columns beside '{on}': {', '.join(others[:10]) or 'none'}.",
            f"Name its columns with --on and --value, or give a DataFrame of '{on}' and one value.",
        )
    return others[0]


def _compared(
    treated: pd.DataFrame, control: pd.DataFrame, value: str, confidence: float, *, repeated: bool
) -> tuple[Interval, str]:
    a, b = treated[value].to_numpy(float), control[value].to_numpy(float)
    if repeated:
        means = tuple(clustered(rows[value], rows["cluster"]) for rows in (treated, control))
        return by_t(means[0], means[1], confidence), "Welch's t over keys, clustered (linearised ratio of sums)"
    if np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        return newcombe(int(a.sum()), len(a), int(b.sum()), len(b), confidence), "Newcombe's score interval of shares"
    return welch(a, b, confidence), "Welch's t of means"


def _units(exposures: pd.DataFrame, *, by_key: bool) -> pd.DataFrame:
    """id (request id or key), cluster and arm; requests that got no answer of a release are no exposure."""
    log = exposures[exposures["status"].isin(_ANSWERED) & exposures["release"].notna() & exposures["fallback"].isna()]
    log = log.sort_values("time", kind="stable").drop_duplicates("request_id")
    keyed = log[log["key"].notna()]
    first = keyed.drop_duplicates("key").set_index("key")["release"]
    switched = keyed.groupby("key")["release"].nunique()
    if by_key:
        units = pd.DataFrame({"id": first.index, "cluster": first.index, "arm": first.to_numpy()})
    else:
        cluster = ("key " + log["key"]).fillna("request " + log["request_id"].astype(str))
        arm = log["key"].map(first).fillna(log["release"])
        units = pd.DataFrame({"id": log["request_id"], "cluster": cluster, "arm": arm})
    units.attrs["switched"] = int((switched > 1).sum())
    units.attrs["unanswered"] = len(exposures) - len(log)
    units.attrs["unlinked"] = any(is_ciphertext(key) for key in keyed["key"])
    return units


def _values(metric: Any, on: str, value: str) -> pd.DataFrame:
    """One finite value an id, ids as text. Raises Invalid."""
    if not isinstance(metric, pd.DataFrame):
        raise Invalid(f"The metric is a {type(metric).__name__}, not a DataFrame.", f"Give one with {on} and a value.")
    for name in (on, value):
        if name not in metric.columns:
            raise Invalid(f"There is no column '{name}' in the metric.", f"Columns: {', '.join(map(str, metric))}.")
    numbers = pd.to_numeric(metric[value], errors="coerce").astype(float)
    if (numbers.isna() & metric[value].notna()).any() or np.isinf(numbers).any():
        raise Invalid(f"'{value}' holds what is no finite number.", "Give one number for each row, 0 or 1 for yes/no.")
    found = pd.DataFrame({on: metric[on].astype(str), value: numbers})[metric[on].notna() & numbers.notna()]
    twice = found[on].duplicated()
    if twice.any():
        raise Invalid(
            f"'{found.loc[twice, on].iloc[0][:60]}' is in the metric more than once.",
            f"Give one value each, for example df.groupby('{on}', as_index=False)['{value}'].mean().",
        )
    return found


def _arm(name: str, counts: dict[str, int], rows: pd.DataFrame, value: str) -> Arm:
    return Arm(release=name, exposed=counts[name], values=len(rows), mean=float(rows[value].mean()))


def _uneven(treated: int, control: int, share_pct: int) -> float:
    total = treated + control
    expected = total * share_pct / 100, total * (100 - share_pct) / 100
    chi2 = sum((seen - wanted) ** 2 / wanted for seen, wanted in zip((treated, control), expected, strict=True))
    return math.erfc(math.sqrt(chi2 / 2))


def _notes(units: pd.DataFrame, *, left_out: int, share_pct: int | None) -> tuple[str, ...]:
    notes = []
    if share_pct is None:
        notes.append("The share of the traffic was not constant, so the split itself is not checked.")
    if units.attrs["switched"]:
        notes.append(f"{units.attrs['switched']:,} keys met more than one release: the first one counts.")
    if units.attrs["unlinked"]:
        notes.append("The log keeps the keys encrypted: several requests of one key count as if of several.")
    if units.attrs["unanswered"]:
        notes.append(f"{units.attrs['unanswered']:,} requests without an answer of a release are left out.")
    if left_out:
        notes.append(f"{left_out:,} rows of the metric are about nothing in the log.")
    return tuple(notes)
