"""Bench: how fast a release answers under each way of serving it, and which way meets a service level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from themisto.serving.models import EndpointName, ServingConfig
from themisto.types import Model, Ulid, UserName, UtcTime

__all__ = ["Bench", "BenchRequest", "Point", "frontier", "meets", "proposal"]


class BenchRequest(Model):
    """What to measure: every batching delay with every number of instances under every load.

    The largest batch stays what it is: callers rely on it.
    """

    release: PositiveInt | None = Field(None, description="default: the stable one, else the candidate")
    seconds: Annotated[int, Field(ge=5, le=600)] = 60
    queue_delays_us: tuple[Annotated[int, Field(ge=0, le=100_000)] | None, ...] = Field((None, 0, 200), max_length=6)
    instances: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field((1, 2), max_length=6)
    concurrencies: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field((1, 4, 16, 32), max_length=8)

    @property
    def points(self) -> int:
        return len(self.queue_delays_us) * len(self.instances) * len(self.concurrencies)


class Point(Model):
    """One measurement: so many requests at a time, a row each; by itself or, with a delay, put together by Triton."""

    queue_delay_us: NonNegativeInt | None
    instances: PositiveInt
    concurrency: PositiveInt
    requests_per_s: PositiveFloat
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def way(self) -> tuple[int, int]:
        """Instances and delay, for sorting: without batching comes first."""
        return self.instances, -1 if self.queue_delay_us is None else self.queue_delay_us

    @property
    def delay(self) -> str:
        return "off" if self.queue_delay_us is None else f"{self.queue_delay_us} µs"


class Bench(Model):
    """One run of the bench. It lives as long as the control plane's process; `points` grow while it runs."""

    id: Ulid
    endpoint: EndpointName
    release: PositiveInt
    serving: ServingConfig
    """The release's own."""
    state: Literal["running", "done", "failed", "cancelled"]
    message: str = ""
    expected: PositiveInt
    points: tuple[Point, ...] = ()
    by: UserName
    started_at: UtcTime


def frontier(points: Iterable[Point]) -> list[Point]:
    """Points that no other one beats in both throughput and p99, by rising throughput."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.requests_per_s, p.p99_ms)):
        if not best or point.p99_ms < best[-1].p99_ms:
            best.append(point)
    return best[::-1]


def meets(point: Point, slo: Mapping[str, str]) -> bool:
    """Whether it keeps the latencies of `slo` (`{"p99": "10ms"}`); error rates are not a bench's matter."""
    limits = {name: float(value.removesuffix("ms")) for name, value in slo.items() if value.endswith("ms")}
    return all(getattr(point, f"{name}_ms") <= limit for name, limit in limits.items())


def proposal(bench: Bench, slo: Mapping[str, str]) -> tuple[Point, ServingConfig] | None:
    """The fastest point that meets `slo`, and the release's configuration changed to it; None where none does."""
    fit: Sequence[Point] = [point for point in bench.points if meets(point, slo)]
    if not fit:
        return None
    best = max(fit, key=lambda p: p.requests_per_s)
    change = {"queue_delay_us": best.queue_delay_us, "instances": best.instances}
    return best, bench.serving.model_copy(update=change)
