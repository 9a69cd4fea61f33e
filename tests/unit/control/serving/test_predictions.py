"""The newest predictions, page by page, and those that went wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from themisto.errors import Invalid, Refused
from themisto_hub.control.serving.predictions import Predictions
from themisto_hub.gateway.predictions import write_parquet


@pytest.fixture
def logged(world):
    """`logged({"status": 503, …}, …)`: requests of credit, one a second, the last one newest."""
    world.live()
    world.clock.pass_(days=2)
    began = world.clock()

    def write(*lines):
        usual = {"endpoint": "credit", "caller": "app", "protocol": "http", "path": "/v2/models/credit/infer"}
        usual |= {"status": 200, "latency_ms": 1.0, "release": "credit@1", "chosen": "credit@1"}
        rows = [
            usual | {"time": began + timedelta(seconds=at), "request_id": f"r{at}"} | line
            for at, line in enumerate(lines)
        ]
        write_parquet(world.control.settings.folder("gateway") / "predictions", "part", rows)
        return Predictions(world.control)

    return write


def ids(found):
    return [one.request_id for one in found]


def test_pages_go_on_where_the_one_before_ended(world, logged):
    predictions = logged(*[{}] * 5)
    first, place = predictions.newest(world.caller(), "credit", limit=2)
    second, place = predictions.newest(world.caller(), "credit", limit=2, after=place)
    last, end = predictions.newest(world.caller(), "credit", limit=2, after=place)
    assert [ids(page) for page in (first, second, last)] == [["r4", "r3"], ["r2", "r1"], ["r0"]]
    assert end is None


def test_failures_are_all_that_got_no_good_answer(world, logged):
    predictions = logged(
        {}, {"status": 503}, {"status": 400}, {"status": None}, {"protocol": "grpc", "status": 0},
        {"protocol": "grpc", "status": 14}, {"status": 0},
    )  # fmt: skip
    found, _ = predictions.newest(world.caller(), "credit", only="failures")
    assert ids(found) == ["r6", "r5", "r3", "r2", "r1"]


def test_a_release_is_told_with_what_it_was_chosen_for_and_did_not_answer(world, logged):
    predictions = logged(
        {},
        {"release": "credit@1", "chosen": "credit@2", "fallback": "earlier"},
        {"release": None, "chosen": "credit@2", "status": 503},
        {"release": "credit@2", "chosen": None},
    )
    found, _ = predictions.newest(world.caller(), "credit", about=2)
    assert [(one.request_id, one.release, one.chosen) for one in found] == [
        ("r3", "credit@2", None),
        ("r2", None, "credit@2"),
        ("r1", "credit@1", "credit@2"),
    ]
    assert ids(predictions.newest(world.caller(), "credit", about=2, only="fallbacks")[0]) == ["r1"]
    assert predictions.newest(world.caller(), "credit", about=3) == ([], None)


def test_a_shadows_answers_are_not_what_callers_got(world, logged):
    predictions = logged({}, {"request_id": "r0", "release": "credit@2", "shadow": True})
    assert [one.release for one in predictions.newest(world.caller(), "credit")[0]] == ["credit@1"]


def test_words_of_a_refusal_are_told_also_without_the_bodies(world, logged):
    sides = {"inputs": '{"x": [1]}', "outputs": '{"error": "no such column <b>"}'}
    predictions = logged(sides | {"status": 400}, {"inputs": None, "outputs": "[1]"}, {"outputs": '{"error": [1]}'})
    without, _ = predictions.newest(world.caller(), "credit", bodies=False)
    assert [(one.error, one.inputs, one.outputs) for one in without] == [
        (None, None, None),
        (None, None, None),
        ("no such column <b>", None, None),
    ]
    assert predictions.newest(world.caller(), "credit")[0][-1].inputs == {"x": [1]}


def test_each_look_is_recorded_with_what_was_asked_and_strangers_are_refused(world, logged):
    predictions = logged({})
    predictions.newest(world.caller(), "credit", about=1, only="failures", limit=5)
    assert world.last_audit().after == {"limit": 5, "about": "credit@1", "only": "failures", "after": None}
    with pytest.raises(Refused):
        predictions.newest(world.caller("colleague", "other-team"), "credit")
    assert world.last_audit().outcome == "refused"


@pytest.mark.parametrize("after", ["nowhere", "1.2.x", "².0.x", f"{10**17}.0.x", ".0."])
def test_a_place_that_no_page_gave_is_refused(world, logged, after):
    with pytest.raises(Invalid, match="no place"):
        logged({}).newest(world.caller(), "credit", after=after)
