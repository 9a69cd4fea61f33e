"""What a bench makes of its points, and what the verb does with it."""

from __future__ import annotations

import pytest

from themisto.errors import Failed, Invalid, NotFound
from themisto.serving import benching
from themisto.serving.bench import Bench, Point, frontier, meets, proposal
from themisto.serving.models import ServingConfig
from themisto.serving.observing_display import Frontier
from themisto.types import new_ulid, utcnow


def point(requests_per_s, p99_ms, *, instances=1, delay=100, concurrency=4):
    return Point(
        queue_delay_us=delay,
        instances=instances,
        concurrency=concurrency,
        requests_per_s=requests_per_s,
        p50_ms=p99_ms / 2,
        p95_ms=p99_ms * 0.9,
        p99_ms=p99_ms,
    )


SLOW_FAST = (point(1000, 1), point(3000, 8, instances=2), point(2900, 20), point(5000, 30, delay=1000), point(900, 1.5))


def bench(*points, **change):
    usual = {
        "id": new_ulid(),
        "endpoint": "measured",
        "release": 1,
        "serving": ServingConfig(max_batch=32, rate_per_s=500),
        "state": "done",
        "expected": 5,
        "points": points or SLOW_FAST,
        "by": "scientist",
        "started_at": utcnow(),
    }
    return Bench(**usual | change)


def test_the_frontier_is_what_no_other_point_beats():
    assert [p.requests_per_s for p in frontier(SLOW_FAST)] == [1000, 3000, 5000]


def test_the_proposal_is_the_fastest_that_meets_the_level_and_keeps_the_rest():
    best, serving = proposal(bench(), {"p99": "10ms", "errors": "0.1%"})
    assert best.requests_per_s == 3000
    assert serving == ServingConfig(max_batch=32, rate_per_s=500, instances=2, queue_delay_us=100)
    assert proposal(bench(), {"p99": "0.5ms"}) is None
    assert proposal(bench(), {"p50": "0.6ms"})[0].requests_per_s == 1000
    assert proposal(bench(), {})[0].requests_per_s == 5000
    assert not meets(point(1, 11), {"p99": "10ms", "p50": "100ms"})


def test_it_shows_a_table_everywhere_and_a_picture_in_a_browser():
    shown = Frontier(bench(), {"p99": "10ms"})
    assert "--batch max=32,delay=100us,instances=2" in repr(shown)
    assert "3,000" in repr(shown)
    assert "data:image/png;base64,iVBOR" in shown._repr_html_()
    assert "No configuration met p99 of 0.1ms" in repr(Frontier(bench(), {"p99": "0.1ms"}))


@pytest.fixture
def credit(serving, booster, numbers, plane, monkeypatch):
    monkeypatch.setattr(benching, "_POLL_S", 0.01)
    serving.deploy("measured", booster, numbers, strategy="replace", slo=["p99=2ms"])
    plane.bench = plane.bench.model_copy(update={"points": SLOW_FAST})
    return serving


def test_the_verb_measures_and_releases_what_is_proposed(credit, plane):
    found, slo = credit.bench("measured", slo=["p99=10ms"])
    assert found.points == SLOW_FAST
    assert credit.bench("measured")[1] == {"p99": "2ms"}
    released = credit.apply_bench(found, slo)
    assert (released.number, released.serving.instances) == (2, 2)
    assert released.artifact == plane.releases["measured"][0].artifact
    assert released.model_version == plane.releases["measured"][0].model_version
    with pytest.raises(NotFound, match=r"No configuration met p99=0.1ms: nothing was released"):
        credit.apply_bench(found, {"p99": "0.1ms"})
    with pytest.raises(Invalid, match="served that way already"):
        credit.apply_bench(found.model_copy(update={"release": 2}), slo)


@pytest.mark.parametrize("seconds", [0, 4, 601])
def test_how_long_is_checked(credit, seconds):
    with pytest.raises(Invalid, match="seconds"):
        credit.bench("measured", seconds=seconds)


def test_an_interrupt_ends_it_at_the_control_plane(credit, plane, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benching.time, "sleep", interrupted)
    with pytest.raises(Failed, match="the bench was ended"):
        credit.bench("measured")
    assert plane.bench.state == "cancelled"


def test_a_bench_that_failed_says_why(credit, plane):
    plane.bench = plane.bench.model_copy(update={"state": "failed", "message": "no memory."})
    with pytest.raises(Failed, match="no memory"):
        credit.bench("measured")
