"""Verdicts: what the analysis of a rollout's step has found, in words and numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from themisto.types import Model, UtcTime

__all__ = ["Finding", "Measured", "Share", "StepVerdict", "Tolerated"]

Finding = Literal["worse", "open", "fine"]
"""`worse`: beyond what is tolerated, shown by evidence; `fine`: within it, shown; `open`: neither yet."""

Points = Annotated[float, Field(gt=0, lt=1)]


class Tolerated(Model):
    """By how much a candidate's shares may exceed stable's and still pass; 0.01 is one percentage point."""

    errors: Points = 0.01
    slow: Points = 0.05
    outputs: Points = 0.10


class Share(Model):
    """`hits` of `of` answers."""

    hits: NonNegativeInt = 0
    of: NonNegativeInt = 0

    def __str__(self) -> str:
        return f"{self.hits:,} of {self.of:,}" if self.of else "no answers"


class Measured(Model):
    """One rate of the candidate beside stable's.

    what: `errors`, `slow`, or the output whose distribution it is.
    detail: what counts as a hit, for example `slower than 12.0 ms` or `answers '1'`.
    chance: how often, at the most, a candidate within what is tolerated looks as bad as this.
    """

    what: str
    detail: str = ""
    candidate: Share
    stable: Share
    finding: Finding = "open"
    chance: Annotated[float, Field(ge=0, le=1)] = 1.0

    def __str__(self) -> str:
        words = f"{self.what} ({self.detail})" if self.detail else self.what
        return f"{words}: {self.candidate} against {self.stable} at stable"


class StepVerdict(Model):
    """What is known about a step now, and what follows."""

    finding: Finding
    words: str
    at: UtcTime
    measured: tuple[Measured, ...] = ()
