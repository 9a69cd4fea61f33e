"""Lines of the log as rows of a frame, and a shadow's answers beside the callers'."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from themisto.errors import Invalid, NotFound
from themisto.serving.models import Column, Signature
from themisto.serving.observing import moment
from themisto.serving.predictions import FACTS, rows
from themisto.serving.shadow import compare

SIGNATURE = Signature(
    inputs=(Column(name="x", dtype="FP32"), Column(name="s", dtype="BYTES")),
    outputs=(Column(name="y", dtype="INT64", shape=()), Column(name="p", dtype="FP32", shape=(2,))),
)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def line(number=0, **fields):
    usual = {
        "time": NOON + timedelta(seconds=number),
        "request_id": f"r{number}",
        "caller": "scientist",
        "release": "credit@1",
        "key": None,
        "status": 200,
        "latency_ms": 2.0,
        "shadow": None,
        "inputs": json.dumps({"x": [1.0, 2.0], "s": ["a", "b"]}),
        "outputs": json.dumps({"y": [0, 1], "p": [0.9, 0.1, 0.2, 0.8]}),
    }
    return usual | fields


def frame(*lines, signature=SIGNATURE):
    return rows(pa.Table.from_pylist(list(lines)), lambda _: signature)


def test_a_request_of_two_rows_is_two_rows():
    found = frame(line())
    assert list(found.columns) == [*FACTS, "x", "s", "y", "p"]
    assert found.row.tolist() == [0, 1]
    assert found.x.tolist() == [1.0, 2.0]
    assert found.s.tolist() == ["a", "b"]
    assert found.y.tolist() == [0, 1]
    assert found.p.tolist() == [[0.9, 0.1], [0.2, 0.8]]
    assert found.time.dt.tz is not None


def test_without_a_signature_the_shortest_column_says_how_many_rows():
    assert frame(line(), signature=None).p.tolist() == [[0.9, 0.1], [0.2, 0.8]]


@pytest.mark.parametrize("outputs", [None, "", "[]", '{"error": "no such column"}', '{"y": []}'])
def test_what_was_not_kept_is_missing(outputs):
    found = frame(line(outputs=outputs, status=400), line(1))
    assert found.x.tolist() == [1.0, 2.0, 1.0, 2.0]
    assert found.y.isna().tolist() == [True, True, False, False]
    assert found.error.notna().tolist() == [bool(outputs and "error" in outputs)] * 2 + [False, False]


_values = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=3)
_body = st.dictionaries(st.sampled_from(["x", "s", "y", "p", "time", "other"]), _values | st.lists(_values, max_size=6))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_body | _values | st.lists(_values), _body), min_size=1, max_size=4))
def test_whatever_callers_sent_is_a_frame(bodies):
    lines = [line(n, inputs=json.dumps(i), outputs=json.dumps(o)) for n, (i, o) in enumerate(bodies)]
    found = frame(*lines)
    assert list(dict.fromkeys(found.request_id)) == [f"r{n}" for n in range(len(bodies))]
    assert (found.groupby("request_id").row.max() + 1 == found.groupby("request_id").size()).all()


def test_a_request_without_bodies_is_one_row():
    assert len(frame(line(inputs=None, outputs=None))) == 1


def test_releases_with_other_columns_share_a_frame():
    found = frame(line(), line(1, inputs='{"z": [7]}', outputs='{"y": [1]}'), signature=None)
    assert found.z.tolist()[2] == 7
    assert found.z.isna().sum() == 2


def test_names_that_clash_say_their_side():
    found = frame(line(inputs='{"time": [3], "y": [4]}', outputs='{"y": [5]}'), signature=None)
    assert found["inputs.time"].tolist() == [3]
    assert (found["inputs.y"].tolist(), found["outputs.y"].tolist()) == ([4], [5])


def test_labels_belong_to_their_row_or_to_every_row():
    found = frame(line(labels='{"1": 1.0}'), line(1, labels='{"*": 0.0, "0": 1.0}'), line(2, labels=None))
    assert found.label.tolist()[1:4] == [1.0, 1.0, 0.0]
    assert found.label.isna().tolist() == [True, False, False, False, True, True]


def test_nothing_is_an_empty_frame_with_all_facts():
    empty = pa.Table.from_pylist([line()]).slice(0, 0)
    assert list(rows(empty, lambda _: None).columns) == list(FACTS)


def both(number, ours, theirs, **shadow):
    """A caller's answer and the shadow's, one row."""
    inputs = json.dumps({"x": [1.0]})
    answer = {"inputs": inputs, "release": "credit@1", "outputs": json.dumps(ours)}
    copy = {"inputs": inputs, "release": "credit@2", "outputs": json.dumps(theirs), "shadow": True, "latency_ms": 5.0}
    return line(number, **answer), line(number, **copy | shadow)


def test_rows_that_differ_most_come_first():
    log = frame(
        *both(0, {"y": [1.0]}, {"y": [1.00001]}),
        *both(1, {"y": [1.0]}, {"y": [1.5]}),
        *both(2, {"y": [1.0]}, {"y": [9.0]}),
        signature=None,
    )
    found = compare(log, ("y",))
    assert found.request_id.tolist() == ["r2", "r1", "r0"]
    assert found.agrees.tolist() == [False, False, True]
    assert found.difference.tolist()[:2] == [8.0, 0.5]
    assert (found.release_shadow[0], found.latency_ms[0], found.latency_ms_shadow[0]) == ("credit@2", 2.0, 5.0)
    assert "33.3% agree" in found.attrs["summary"]
    assert "credit@2 beside credit@1" in found.attrs["summary"]


def test_texts_agree_when_equal_and_a_failed_shadow_never():
    log = frame(
        *both(0, {"y": ["no"]}, {"y": ["no"]}),
        *both(1, {"y": ["no"]}, {"y": ["yes"]}),
        *both(2, {"y": ["no"]}, {"error": "out of memory"}, status=500),
        signature=None,
    )
    found = compare(log, ("y",)).set_index("request_id")
    assert found.agrees.to_dict() == {"r0": True, "r1": False, "r2": False}
    assert "the shadow failed in 1 rows" in compare(log, ("y",)).attrs["summary"]


def test_probabilities_are_compared_value_by_value():
    log = frame(*both(0, {"p": [0.9, 0.1]}, {"p": [0.7, 0.3]}), signature=SIGNATURE)
    assert compare(log, ("y", "p")).difference.tolist() == pytest.approx([0.2])


def test_shadow_answers_without_the_callers_are_counted_not_compared():
    pair, alone = both(0, {"y": [1.0]}, {"y": [1.0]}), both(1, {"y": [1.0]}, {"y": [1.0]})[1]
    found = compare(frame(*pair, alone, signature=None), ("y",))
    assert len(found) == 1
    assert "1 answers of the shadow without" in found.attrs["summary"]


def test_no_shadow_is_told():
    with pytest.raises(NotFound, match="No request has both answers"):
        compare(frame(line()), ("y",))


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-11-20", "2026-11-20T00:00:00+00:00"),
        ("2026-11-20T08:00+09:00", "2026-11-19T23:00:00+00:00"),
        (datetime(2026, 11, 20, 8), "2026-11-20T08:00:00+00:00"),  # noqa: DTZ001 - what a person may give
    ],
)
def test_moments(text, iso):
    assert moment(text).isoformat() == iso


@pytest.mark.parametrize("text", ["yesterday", "2w", "", "999999d", "2026-13-01"])
def test_what_is_no_moment_is_told(text):
    with pytest.raises(Invalid, match="is no time"):
        moment(text)


def test_moments_ago():
    assert pd.Timestamp.now("UTC") - pd.Timestamp(moment("2h")) == pytest.approx(
        pd.Timedelta(hours=2), abs=pd.Timedelta(seconds=5)
    )
