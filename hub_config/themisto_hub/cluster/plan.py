"""Plan: what an endpoint is now, as a cluster must run it; only releases that may carry traffic get through."""

from __future__ import annotations

import hmac
from typing import Annotated, Self

from pydantic import Field, model_validator

from themisto.errors import Refused
from themisto.serving.models import EndpointName, Release, Tier
from themisto.serving.rollout import Approval, Strategy
from themisto.types import Model, Slug

__all__ = ["Placed", "Plan", "require_approval"]


class Placed(Model):
    """One release and its part of the traffic."""

    release: Release
    weight_pct: Annotated[int, Field(ge=0, le=100)] = 0
    shadow: bool = False
    """Gets a copy of every request; its answers go nowhere. Its weight is 0."""
    approval: Approval | None = None


class Plan(Model):
    """One endpoint: stable, the candidate beside it, and the release that a rollback brings back."""

    endpoint: EndpointName
    group: Slug
    tier: Tier
    strategy: Strategy | None = None
    stable: Placed
    candidate: Placed | None = None
    previous: Placed | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        total = sum(placed.weight_pct for placed in self.placed)
        if total != 100:
            msg = f"the weights of '{self.endpoint}' add up to {total}, not 100"
            raise ValueError(msg)
        if any(placed.shadow and placed.weight_pct for placed in self.placed):
            msg = f"a shadow release of '{self.endpoint}' has a weight"
            raise ValueError(msg)
        numbers = [placed.release.number for placed in self.placed]
        if len(set(numbers)) != len(numbers):
            msg = f"a release of '{self.endpoint}' is there twice"
            raise ValueError(msg)
        for placed in self.placed:
            if (placed.release.endpoint, placed.release.tier) != (self.endpoint, self.tier):
                msg = f"{placed.release} is not a {self.tier} release of '{self.endpoint}'"
                raise ValueError(msg)
        return self

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Stable first."""
        return tuple(p for p in (self.stable, self.candidate, self.previous) if p is not None)

    @property
    def serving(self) -> tuple[Placed, ...]:
        """Those that get requests now, copies included."""
        return tuple(p for p in self.placed if p.weight_pct or p.shadow)

    @property
    def shadow(self) -> Placed | None:
        return next((p for p in self.placed if p.shadow), None)


def require_approval(plan: Plan) -> None:
    """Raises Refused if a prod release of the plan was not approved as it is now."""
    if plan.tier != "prod":
        return
    for placed in plan.placed:
        given, release = placed.approval, placed.release
        if given is None or given.decision != "approve":
            raise Refused(
                f"{release} is for prod and nobody has approved it.", "Another person approves it on the review page."
            )
        if not hmac.compare_digest(given.release_hash, release.hash):
            raise Refused(
                f"{release} is not the release that {given.by} approved.", "Deploy it again and have it approved."
            )
