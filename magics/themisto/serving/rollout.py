"""Rollout: how traffic moves to a release."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from themisto.serving.gates import GateResult
from themisto.serving.names import EndpointName
from themisto.serving.verdict import StepVerdict, Tolerated
from themisto.types import Model, Sha256, Ulid, UserName, UtcTime

__all__ = ["ACTIVE", "Approval", "Rollout", "RolloutRequest", "RolloutState", "Strategy"]

Strategy = Literal["canary", "shadow", "ab", "replace"]


class RolloutRequest(Model):
    """How traffic shall move to the release.

    A canary's weight rises by `steps`, as the analysis allows: with nothing else said, `weight_pct`, 30, 100.
    """

    strategy: Strategy = "canary"
    weight_pct: Annotated[int, Field(ge=0, le=100)] = 5
    steps: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (), description="a canary's shares of the traffic in percent, rising; 100 is added", max_length=20
    )
    manual: bool = Field(False, description="a person takes each step; a breach still goes back by itself")
    dwell_s: Annotated[int, Field(ge=0, le=30 * 86_400)] = Field(60, description="each step lasts at least so long")
    tolerated: Tolerated = Tolerated()

    @model_validator(mode="before")
    @classmethod
    def _weight_and_steps_agree(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("strategy", "canary") != "canary":
            return data
        steps, weight = data.get("steps") or (), data.get("weight_pct", 5)
        if not isinstance(steps, list | tuple):
            return data
        if steps:
            return {"weight_pct": steps[0]} | data | {"steps": [*steps, *([] if steps[-1] == 100 else [100])]}
        usual = [weight, *(step for step in (30, 100) if isinstance(weight, int) and step > weight)]
        return data | {"steps": usual}

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if self.strategy != "canary" and self.steps:
            msg = f"a rollout by {self.strategy} has no steps"
            raise ValueError(msg)
        if list(self.steps) != sorted(set(self.steps)):
            msg = "each step must be larger than the one before"
            raise ValueError(msg)
        if self.steps and self.steps[0] != self.weight_pct:
            msg = "the first step is the weight"
            raise ValueError(msg)
        return self


class Approval(Model):
    """One person's decision, bound to what she saw."""

    by: UserName
    decision: Literal["approve", "refuse"]
    release_hash: Sha256
    logged_in_at: UtcTime
    at: UtcTime


RolloutState = Literal["loading", "waiting_approval", "running", "done", "rolled_back", "refused", "failed"]
ACTIVE: tuple[RolloutState, ...] = ("loading", "waiting_approval", "running")
"""States in which a rollout still has somewhere to go; an endpoint has at most one of them."""


class Rollout(Model):
    """How traffic moves to one release.

    loading -> [waiting_approval ->] running (its weight is live) -> done (it is stable);
    refused, failed and rolled_back are ends. `stage` and `message` say in words what goes on. A running
    canary is at `steps[step]` percent since `step_since`; `verdict` is its latest analysis.
    """

    id: Ulid
    endpoint: EndpointName
    release: PositiveInt
    strategy: Strategy
    weight_pct: Annotated[int, Field(ge=0, le=100)]
    state: RolloutState
    stage: str = Field(
        "", description="prove, gate, load, golden, warm-up, approval, traffic; decide: too little to go by"
    )
    message: str = ""
    requested_by: UserName
    created_at: UtcTime
    updated_at: UtcTime
    steps: tuple[int, ...] = ()
    step: NonNegativeInt = 0
    step_since: UtcTime | None = None
    manual: bool = False
    verdict: StepVerdict | None = None
    approvals: tuple[Approval, ...] = ()
    gates: tuple[GateResult, ...] = Field((), description="how each gate was decided, newest judgement last")
    review_url: str | None = Field(None, description="the page on which another person approves")
