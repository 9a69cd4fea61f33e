"""Features that are the label in another dress: found by how much they tell of it.

How much is mutual information, put on a scale from 0 (nothing) to 1 (the label itself):

- a label of few values: the share of the label's entropy that the feature takes away;
- a label that is a number: Linfoot's informational correlation, sqrt(1 - exp(-2 I)), which is the size of the
  correlation where both are normal (Linfoot 1957, https://doi.org/10.1016/S0019-9958(57)90116-X).

I is estimated by scikit-learn: exactly for categories, by neighbours for numbers (Ross 2014, Kraskov 2004). What the
same feature tells of the label shuffled is taken off, so that a column of names does not seem to know anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid, MissingSetting
from themisto.features.findings import Finding

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["FEW", "SURE", "SUSPICIOUS", "target_like"]

SUSPICIOUS = {"classification": 0.8, "regression": 0.95}
"""From here on it is a warning. 0.8 of a balanced label's entropy: one feature alone errs in 3 of 100 cases;
a correlation of 0.95: one feature alone explains 90 % of the variance."""
SURE = 0.99
"""From here on it is an error: the feature is the label."""
FEW = 20
"""A number of at most so many different values is a category."""
_SAMPLE = 10_000
_LEAST = 50
_ROOM = 0.01  # nats: less than that is left of the entropy where a column names nearly every row


def target_like(frame: pd.DataFrame, features: Sequence[str], label: str, *, seed: int = 0) -> list[Finding]:
    """Findings on features that tell nearly all of `frame[label]`, by their value or by being empty.

    At most 10,000 rows are looked at. Raises MissingSetting without scikit-learn, Invalid for a label that is not
    there, has one value, or stands in fewer than 50 rows.
    """
    try:
        import sklearn.feature_selection  # noqa: F401
    except ImportError:
        raise MissingSetting(
            "Features like the target are found by scikit-learn.", "pip install 'themisto[checks]'."
        ) from None
    import numpy as np

    if label not in frame.columns:
        raise Invalid(f"There is no column '{label}'.", f"There are {', '.join(map(str, frame.columns[:20]))}.")
    rows = frame[frame[label].notna()]
    if len(rows) < _LEAST:
        raise Invalid(f"Only {len(rows)} rows have a '{label}'.", f"Give at least {_LEAST}.")
    rows = rows.sample(min(len(rows), _SAMPLE), random_state=seed)
    truth, kind = _label(rows[label])
    if len(np.unique(truth)) < 2:
        raise Invalid(f"'{label}' has one value.", "Give rows with several.")
    tells = _Tells(truth, kind, seed)
    found = []
    for feature in features:
        if feature not in rows.columns or feature == label:
            continue
        told = {how: tells(values, discrete) for how, values, discrete in _sides(rows[feature])}
        how, share = max(told.items(), key=lambda item: item[1], default=("", 0.0))
        if share >= SUSPICIOUS[kind]:
            found.append(_finding(feature, label, how, share, kind))
    return found


def _finding(feature: str, label: str, how: str, share: float, kind: str) -> Finding:
    told = (
        f"{100 * share:.3g} % of '{label}'"
        if kind == "classification"
        else f"'{label}' with a correlation of {share:.3g}"
    )
    return Finding(
        check="target",
        subject=feature,
        severity="error" if share >= SURE else "warning",
        detail=f"'{feature}' tells {told} by {how}.",
        remedy="Ask when it is known: what is written after the outcome is no feature.",
        figures={"tells": share, "threshold": SUSPICIOUS[kind]},
    )


def _label(values: pd.Series[Any]) -> tuple[np.ndarray[Any, Any], str]:
    """The label as numbers, and whether it is one of few values or a number."""
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if numeric and values.nunique() > FEW:
        return values.to_numpy(dtype="float64"), "regression"
    return pd.factorize(values)[0], "classification"


def _sides(values: pd.Series[Any]) -> list[tuple[str, np.ndarray[Any, Any], bool]]:
    """What of a feature may tell: its value (where it has one), and whether it has one; each numeric, and whether
    it is a category. Lists are not looked at."""
    import numpy as np
    import pandas as pd

    empty = values.isna().to_numpy()
    sides: list[tuple[str, np.ndarray[Any, Any], bool]] = []
    if 0 < empty.sum() < len(values):
        sides.append(("being empty or not", empty.astype(int), True))
    present = values[~empty]
    if present.empty or present.map(lambda v: isinstance(v, list | tuple | np.ndarray)).any():
        return sides
    if pd.api.types.is_datetime64_any_dtype(present):
        numbers = present.astype("int64").to_numpy(dtype="float64")
    elif pd.api.types.is_bool_dtype(present):
        numbers = present.to_numpy(dtype="float64")
    else:
        numbers = pd.to_numeric(present, errors="coerce").to_numpy(dtype="float64")
    if not np.isfinite(numbers).all():  # texts, and what is not finite, are categories
        return [*sides, ("its value", _spread(pd.factorize(present)[0], empty), True)]
    few = len(np.unique(numbers)) <= FEW
    return [*sides, ("its value", _spread(pd.factorize(present)[0] if few else numbers, empty), few)]


def _spread(present: np.ndarray[Any, Any], empty: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values at their rows again; NaN where there is none."""
    import numpy as np

    whole = np.full(len(empty), np.nan)
    whole[~empty] = present
    return whole


class _Tells:
    """From 0 to 1 how much values tell of the truth."""

    def __init__(self, truth: np.ndarray[Any, Any], kind: str, seed: int) -> None:
        import numpy as np

        self._truth, self._kind, self._seed = truth, kind, seed
        self._shuffled = np.random.default_rng(seed).permutation(truth)

    def __call__(self, values: np.ndarray[Any, Any], discrete: bool) -> float:
        """Among the rows that have a value; too few of them tell nothing."""
        import numpy as np

        there = ~np.isnan(values)
        if there.sum() < _LEAST:
            return 0.0
        truth = self._truth[there]
        information = self._information(values[there], truth, discrete)
        by_chance = self._information(values[there], self._shuffled[there], discrete)
        if self._kind == "regression":
            return float(np.sqrt(1 - np.exp(-2 * max(0.0, information - by_chance))))
        shares = np.unique(truth, return_counts=True)[1] / len(truth)
        room = float(-(shares * np.log(shares)).sum()) - by_chance
        return min(1.0, max(0.0, (information - by_chance) / room)) if room > _ROOM else 0.0

    def _information(self, values: np.ndarray[Any, Any], of: np.ndarray[Any, Any], discrete: bool) -> float:
        """Mutual information in nats; a category that every row has to itself tells nothing of a number."""
        import numpy as np
        from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

        estimate = mutual_info_classif if self._kind == "classification" else mutual_info_regression
        given = values.reshape(-1, 1)
        if discrete and self._kind == "regression" and len(np.unique(values)) == len(values):
            return 0.0
        return float(estimate(given, of, discrete_features=discrete, random_state=self._seed)[0])
