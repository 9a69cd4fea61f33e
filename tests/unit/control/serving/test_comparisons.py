"""Two releases side by side in the log, for the panel: the same numbers as in a notebook, and who may see them."""

from __future__ import annotations

import json
from datetime import timedelta

import pandas as pd
import pytest

from themisto.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from themisto.serving.experiment import effect
from themisto.serving.intervals import newcombe
from themisto.serving.models import Column, Golden, RolloutRequest, Signature
from themisto_hub.control.serving import comparisons
from themisto_hub.control.serving.comparisons import Comparisons
from themisto_hub.control.serving.predictions import Predictions
from themisto_hub.gateway.predictions import write_parquet

SIGNATURE = Signature(
    inputs=(Column(name="x", dtype="FP32"),),
    outputs=(Column(name="score", dtype="FP32"), Column(name="word", dtype="BYTES")),
)
GOLDEN = Golden(inputs={"x": [1.0]}, outputs={"score": [1.0], "word": ["a"]})
LATENCIES = {1: [2.0, 3.0, 4.0, 3.5], 2: [5.0, 6.0, 7.5, 5.5]}


@pytest.fixture
def split(world):
    """credit@1 is stable, credit@2 has half of the traffic."""
    world.promoted(signature=SIGNATURE, golden=GOLDEN)
    half = RolloutRequest(strategy="ab", weight_pct=50)
    world.live(signature=SIGNATURE, golden=GOLDEN, cell="another", rollout=half)
    world.clock.pass_(minutes=10)
    return Comparisons(world.control, Predictions(world.control))


@pytest.fixture
def log(world):
    """`log(row(0, 1, …), …)`"""

    def write(*rows):
        began = world.clock()
        timed = [one | {"time": began + timedelta(seconds=at)} for at, one in enumerate(rows)]
        write_parquet(world.control.settings.folder("gateway") / "predictions", f"part-{began:%f}", timed)

    return write


def row(number, release, **fields):
    usual = {"request_id": f"r{number}", "key": f"k{number}", "endpoint": "credit", "caller": "app", "protocol": "http"}
    usual |= {"path": "/v2/models/credit/infer", "status": 200, "latency_ms": 1.0}
    usual |= {"release": f"credit@{release}", "chosen": f"credit@{release}"}
    return usual | fields


def both_arms():
    each = [(release, ms) for release, times in LATENCIES.items() for ms in times]
    return [
        row(at, release, latency_ms=ms, outputs=json.dumps({"score": [release, release + 1.0], "word": ["a", "b"]}))
        for at, (release, ms) in enumerate(each)
    ]


def test_the_effect_on_latency_is_what_the_kernel_computes_of_the_same_log(world, split, log):
    rows = both_arms()
    log(*rows)
    frame = pd.DataFrame(rows).assign(time=range(8), fallback=None)
    metric = frame[["request_id", "latency_ms"]]
    ours = {"on": "request_id", "value": "latency_ms", "control": "credit@1", "treatment": "credit@2", "share_pct": 50}
    found = split.ab(world.caller(), "credit", "latency_ms")
    assert found == effect(frame.drop(columns="latency_ms"), metric, **ours)
    assert (found.difference, found.caution) == (pytest.approx(2.875), "")


def test_errors_belong_to_the_release_that_was_chosen(world, split, log):
    failed = {"release": "credit@1", "chosen": "credit@2", "fallback": "earlier"}
    gone = {"release": None, "chosen": "credit@2", "status": 503}
    fault = {"release": None, "chosen": "credit@2", "status": 400}
    log(*[row(n, 1) for n in range(5)], *[row(n, 2) for n in range(5, 10)], row(10, 2) | failed, row(11, 2) | gone)
    log(row(12, 2) | fault)
    found = split.ab(world.caller(), "credit", "errors")
    assert (found.treatment.values, found.treatment.mean) == (7, pytest.approx(2 / 7))
    assert (found.low, found.high) == pytest.approx(newcombe(2, 7, 0, 5)[1:])
    assert found.caution.startswith("The interval holds 0")
    assert any("1 requests without an answer" in note for note in found.notes)


def test_an_output_is_the_mean_of_its_rows(world, split, log):
    log(*both_arms())
    found = split.ab(world.caller(), "credit", "outputs.score")
    assert (found.metric, found.control.mean, found.treatment.mean) == ("outputs.score", 1.5, 2.5)


@pytest.mark.parametrize("metric", ["outputs.word", "outputs.x", "score", "time", "", "outputs."])
def test_what_the_log_does_not_hold_is_refused_with_what_it_holds(world, split, log, metric):
    log(*both_arms())
    with pytest.raises(Invalid, match="holds no metric") as refused:
        split.ab(world.caller(), "credit", metric)
    assert refused.value.remedy == "There are: latency_ms, errors, outputs.score."


def test_an_empty_log_and_a_lonely_arm_are_told(world, split, log):
    for _ in range(2):
        with pytest.raises(NotFound, match=r"must both have answered|two are needed") as told:
            split.ab(world.caller(), "credit", "latency_ms")
        assert "DataFrame" not in told.value.remedy
        assert "frame" not in told.value.remedy
        log(*[row(n, 1) for n in range(3)], row(3, 2))


def test_nothing_split_is_told(world):
    world.release()
    with pytest.raises(Conflict, match="has been compared yet"):
        Comparisons(world.control, Predictions(world.control)).ab(world.caller(), "credit", "latency_ms")


def test_where_there_is_more_than_is_looked_at_it_says_so(world, split, log, monkeypatch):
    monkeypatch.setattr(comparisons, "MAX_EXPOSURES", 8)
    log(*both_arms(), *[one | {"request_id": f"n{at}", "key": f"n{at}"} for at, one in enumerate(both_arms())])
    assert "newest 8 requests" in split.ab(world.caller(), "credit", "latency_ms").notes[-1]


def test_a_shadow_is_compared_and_rows_that_differ_most_come_first(world, split, log):
    def pair(number, ours, theirs):
        told = row(number, 1, outputs=json.dumps({"score": ours, "word": ["<b>"] * len(ours)}))
        copy = {"release": "credit@2", "shadow": True, "latency_ms": 4.0}
        return told, told | copy | {"outputs": json.dumps({"score": theirs, "word": ["<b>"] * len(ours)})}

    log(*pair(0, [1.0], [1.0]), *pair(1, [1.0, 2.0], [1.5, 4.0]), *pair(2, [1.0], [None]))
    found = split.shadow(world.caller(), "credit")
    assert (found.release, found.beside, found.rows, found.requests) == ("credit@2", ("credit@1",), 4, 3)
    assert (found.agree, found.latency.p50_ms, found.latency_shadow.p50_ms) == (0.25, 1.0, 4.0)
    assert [(one.request_id, one.row, one.difference) for one in found.apart] == [
        ("r2", 0, None), ("r1", 1, 2.0), ("r1", 0, 0.5),
    ]  # fmt: skip
    assert found.apart[1].ours == {"score": 2.0, "word": "<b>"}
    assert found.apart[0].shadow == {"score": None, "word": "<b>"}
    assert "4 rows of 3 requests, 25.0% agree" in str(found)


def test_without_a_shadow_nothing_is_compared(world, split, log):
    log(*both_arms())
    with pytest.raises(NotFound, match="No request has both answers"):
        split.shadow(world.caller(), "credit")


def test_looks_are_the_groups_own_and_recorded(world, split, log):
    log(*both_arms())
    split.ab(world.caller(), "credit", "errors")
    assert world.last_audit().after == {"compare": "ab", "metric": "errors", "limit": comparisons.MAX_EXPOSURES}
    for look in (lambda who: split.ab(who, "credit", "errors"), lambda who: split.shadow(who, "credit")):
        with pytest.raises(Refused):
            look(world.caller("colleague", "other-team"))
        assert (world.last_audit().action, world.last_audit().outcome) == ("predictions.read", "refused")
        with pytest.raises(Refused):
            look(world.caller(scopes=("infer",)))


def test_more_than_two_at_a_time_are_sent_away(world, split, log, monkeypatch):
    log(*both_arms())
    monkeypatch.setattr(comparisons, "_PATIENCE_S", 0.01)
    with split._turn(), split._turn(), pytest.raises(Unavailable, match="Others compare"):
        split.ab(world.caller(), "credit", "errors")
    assert split.ab(world.caller(), "credit", "errors").metric == "errors"
