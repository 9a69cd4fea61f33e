"""Moving: how traffic shall move to a release, from what people write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from themisto.errors import Invalid
from themisto.serving.options import mistake, pairs_of
from themisto.serving.rollout import RolloutRequest, Strategy
from themisto.serving.verdict import Tolerated

__all__ = ["rollout_request"]

_WEIGHTS: Mapping[Strategy, int] = {"canary": 5, "ab": 50, "shadow": 0, "replace": 100}
_DWELL = re.compile(r"^(\d{1,9})(s|m|h|d)?\Z")
_SECONDS = {None: 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_POINTS = re.compile(r"^(\d+(?:\.\d+)?)%\Z")


def rollout_request(
    strategy: Strategy = "canary",
    weight_pct: int | None = None,
    *,
    steps: Sequence[int] | str | None = None,
    manual: bool = False,
    dwell: str | int | None = None,
    tolerate: Mapping[str, str] | Iterable[str] = (),
) -> RolloutRequest:
    """The rollout that is asked for. Raises Invalid.

    steps: a canary's shares of the traffic in percent, rising: `5,30,100`. Without them, `weight_pct`, 30, 100.
    dwell: how long each step lasts at the least: `10m`, `2h`, or seconds.
    tolerate: by how much the candidate may be worse: `errors=1%`, `slow=5%`, `outputs=10%`.

    >>> rollout_request(steps="10,50").steps
    (10, 50, 100)
    >>> rollout_request(weight_pct=20, dwell="2h").dwell_s
    7200
    """
    shares = _steps(steps)
    if shares and strategy != "canary":
        raise Invalid(f"A rollout by {strategy} has no steps.", "Leave --steps out, or deploy a canary.")
    if shares and weight_pct not in (None, shares[0]):
        raise Invalid(f"The canary begins at {weight_pct} % and its steps at {shares[0]} %.", "Give the steps alone.")
    weight = shares[0] if shares else _WEIGHTS[strategy] if weight_pct is None else weight_pct
    if not (strategy == "shadow" or 1 <= weight <= 100):
        raise Invalid(f"{weight} % is no share of the traffic.", "Give 1 to 100, for example --canary 5.")
    if strategy in ("shadow", "replace"):
        weight = _WEIGHTS[strategy]
    fields: dict[str, Any] = {"dwell_s": _dwell(dwell)} if dwell is not None else {}
    if shares:
        fields["steps"] = shares
    try:
        return RolloutRequest(
            strategy=strategy, weight_pct=weight, manual=manual, tolerated=_tolerated(tolerate), **fields
        )
    except ValidationError as error:
        raise Invalid(
            f"This is no way to move traffic: {mistake(error)}.", "Write --steps 5,30,100 --dwell 10m."
        ) from None


def _steps(steps: Sequence[int] | str | None) -> tuple[int, ...]:
    if steps is None:
        return ()
    parts = [part.strip().removesuffix("%") for part in steps.split(",")] if isinstance(steps, str) else list(steps)
    shares = tuple(int(part) for part in parts if str(part).isdecimal())
    rising = all(1 <= share <= 100 for share in shares) and list(shares) == sorted(set(shares))
    if not shares or len(shares) != len(parts) or not rising:
        raise Invalid(f"'{steps}' are no steps.", "Give rising whole percentages: --steps 5,30,100.")
    return shares


def _dwell(dwell: str | int) -> int:
    found = _DWELL.match(str(dwell))
    if not found:
        raise Invalid(f"'{dwell}' is no length of time.", "Write --dwell 90s, 10m, 2h or 1d.")
    return int(found[1]) * _SECONDS[found[2]]


def _tolerated(tolerate: Mapping[str, str] | Iterable[str]) -> Tolerated:
    points = {}
    for name, value in pairs_of(tolerate):
        found = _POINTS.match(value)
        if name not in Tolerated.model_fields or not found or not 0 < float(found[1]) < 100:
            raise Invalid(
                f"'{name}={value}' says nothing about what is tolerated.",
                "Write --tolerate errors=1%, slow=5% or outputs=10%: points over stable, above 0.",
            )
        points[name] = float(found[1]) / 100
    return Tolerated(**points)
