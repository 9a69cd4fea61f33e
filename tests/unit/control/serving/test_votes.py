"""What counts, for whom, how often."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from themisto.serving.models import Column, Signature
from themisto.serving.verdict import Share
from themisto_hub.control.serving.votes import BASELINE, Answer, Votes, watched

LABEL, SCORE, PAIR = (
    Column(name="label", dtype="INT64"),
    Column(name="score", dtype="FP32"),
    Column(name="probabilities", dtype="FP32", shape=(2,)),
)


def answer(arm="stable", *, key=None, protocol="http", status=200, flags=None, fallback=None, ms=5.0, outputs=None):
    return Answer(datetime(2026, 11, 1, tzinfo=UTC), arm, key, protocol, status, flags, fallback, ms, outputs)


def votes(*columns, **slo):
    made = Votes(columns, **slo)
    made.take_baseline([answer(ms=n / 10, outputs=f'{{"score": [{n}], "label": [{n % 3}]}}') for n in range(BASELINE)])
    return made


@pytest.mark.parametrize(
    ("failed", "fields"),
    [
        (False, {"status": 200}),
        (None, {"status": 400}),
        (None, {"status": 404}),
        (None, {"status": 429}),
        (True, {"status": 500}),
        (True, {"status": 503, "flags": "UF,URX"}),
        (True, {"status": 504, "flags": "UT"}),
        (None, {"status": None, "flags": "DC"}),
        (None, {"status": 0, "flags": "DC"}),
        (True, {"status": 200, "fallback": "rule"}),
        (False, {"protocol": "grpc", "status": 0}),
        (None, {"protocol": "grpc", "status": 3}),
        (None, {"protocol": "grpc", "status": 16}),
        (None, {"protocol": "grpc", "status": 8, "flags": "RL"}),
        (True, {"protocol": "grpc", "status": 13}),
        (True, {"protocol": "grpc", "status": 14}),
        (True, {"protocol": "grpc", "status": 4}),
    ],
)
def test_failure_is_the_servers_and_never_the_callers(failed, fields):
    assert answer(**fields).failed is failed


def test_key_has_one_vote_and_no_key_has_one_each():
    made = votes()
    made.count([answer("candidate", key="a", status=s) for s in (500, 200, 200)])
    made.count([answer("candidate", status=200)] * 2)
    assert made.counts().errors.candidate == Share(hits=1, of=3)


def test_callers_errors_use_up_no_vote():
    made = votes()
    made.count([answer("candidate", key="a", status=400), answer("candidate", key="a", status=500)])
    assert made.counts().errors.candidate == Share(hits=1, of=1)


def test_slow_is_over_stables_p99_or_the_goal_where_that_is_larger():
    assert votes().counts().slow_ms == pytest.approx(19.8)
    made = votes(slo_p99_ms=30.0)
    made.count([answer("candidate", ms=ms) for ms in (29, 31)])
    assert (made.counts().slow_ms, made.counts().slow.candidate) == (30.0, Share(hits=1, of=2))


def test_stable_without_a_past_fixes_its_baseline_with_its_first_answers():
    made = Votes([])
    made.count([answer("candidate", ms=9), *[answer(ms=5)] * BASELINE, answer("candidate", ms=9), answer(ms=4)])
    assert (made.counts().slow.candidate, made.counts().slow.stable) == (Share(hits=1, of=1), Share(hits=0, of=1))
    assert made.counts().errors.stable.of == BASELINE + 1


def test_classes_are_counted_and_unknown_ones_together():
    made = votes(LABEL)
    made.count([answer("candidate", outputs=f'{{"label": [{v}]}}') for v in ("1", "1", "7", "null", "true")])
    made.count([answer("candidate", outputs=o) for o in ('{"other": [1]}', '{"label": [[1]]}', "[]", None)])
    counted = {cell.words: cell.candidate for cell in made.counts().outputs["label"]}
    assert counted["answers 1"].hits == 3  # true equals 1
    assert counted["answers anything else"].hits == 5
    assert counted["answers 0"].of == 8


def test_numbers_fall_into_stables_deciles():
    made = votes(SCORE)
    made.count([answer("candidate", outputs=f'{{"score": [{v}]}}') for v in ("0", "19.9", "20", "199", "1e9", "null")])
    counted = [cell.candidate.hits for cell in made.counts().outputs["score"]]
    assert counted == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1]
    assert [c.words for c in made.counts().outputs["score"]][:2] == ["below 20", "from 20 to 40"]


def test_few_different_numbers_tell_nothing():
    made = Votes([SCORE])
    made.take_baseline([answer(outputs=f'{{"score": [{n % 7}.0]}}') for n in range(BASELINE)])
    made.count([answer("candidate", outputs='{"score": [3.0]}')])
    assert made.counts().outputs == {}


def test_second_of_a_pair_is_taken():
    made = Votes([PAIR])
    made.take_baseline([answer(outputs=f'{{"probabilities": [0.0, {n}]}}') for n in range(BASELINE)])
    made.count([answer("candidate", outputs='{"probabilities": [0.0, 199.0, 0.0, 1.0]}')])
    assert made.counts().outputs["probabilities"][9].candidate == Share(hits=1, of=1)


def test_outputs_that_both_releases_have_are_watched_two_at_the_most():
    wide = Column(name="embedding", dtype="FP32", shape=(64,))
    one = Signature(inputs=(), outputs=(wide, LABEL, PAIR, SCORE))
    other = Signature(inputs=(), outputs=(LABEL, wide, SCORE.model_copy(update={"dtype": "FP64"})))
    assert watched(one, one) == [LABEL, PAIR]
    assert watched(one, other) == [LABEL]


def test_failures_in_a_row_are_counted_by_request():
    made = votes()
    made.count([answer("candidate", key="a", status=500)] * 3 + [answer("candidate", key="a", status=400)])
    assert made.counts().failing_in_a_row == 3
    made.count([answer("stable", status=200), answer("candidate", key="a", status=200)])
    assert made.counts().failing_in_a_row == 0
