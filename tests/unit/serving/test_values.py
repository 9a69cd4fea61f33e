"""Whatever a DataFrame's column holds comes back as what it was: hypothesis looks for what does not."""

from __future__ import annotations

import json
from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from themisto.serving.frame import columns_of, from_json, tensors, to_frame, to_json
from themisto.serving.gateway import decode, encode
from themisto.serving.models import Column
from themisto.serving.portable import values as portable

MISSING = st.none()
MOMENTS = st.datetimes(pd.Timestamp("1700-01-01").to_pydatetime(), pd.Timestamp("2200-01-01").to_pydatetime())
ZONES = st.sampled_from([UTC, ZoneInfo("Asia/Seoul"), ZoneInfo("America/New_York")])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def rows(values, *, min_size=1):
    return st.lists(values, min_size=min_size, max_size=8)


COLUMNS = {
    "integers": rows(st.integers(-(2**63), 2**63 - 1)).map(lambda v: pd.Series(v, dtype="int64")),
    "integers with missing": rows(st.integers(-(2**53) + 1, 2**53 - 1) | MISSING).map(
        lambda v: pd.Series(v, dtype="Int64")
    ),
    "booleans": rows(st.booleans()).map(lambda v: pd.Series(v, dtype=bool)),
    "booleans with missing": rows(st.booleans() | MISSING).map(lambda v: pd.Series(v, dtype="boolean")),
    "doubles": rows(st.floats(allow_infinity=False)).map(lambda v: pd.Series(v, dtype="float64")),
    "floats": rows(st.floats(width=32, allow_infinity=False)).map(lambda v: pd.Series(v, dtype="float32")),
    "text": rows(TEXT).map(lambda v: pd.Series(v, dtype=object)),
    "text with missing": rows(TEXT.filter(lambda t: t != "\u2400") | MISSING).map(lambda v: pd.Series(v, dtype=object)),
    "categories": rows(TEXT).map(lambda v: pd.Series(v, dtype=object).astype("category")),
    "times": rows(MOMENTS | MISSING).map(lambda v: pd.Series(pd.to_datetime(v).as_unit("us"))),
    "times of a zone": st.tuples(rows(MOMENTS), ZONES).map(
        lambda v: pd.Series(pd.to_datetime(v[0]).as_unit("us").tz_localize("UTC").tz_convert(v[1]))
    ),
    "dates": rows(st.dates(date(1, 1, 1), date(9999, 12, 31)) | MISSING, min_size=1)
    .filter(any)
    .map(lambda v: pd.Series(v, dtype=object)),
    "durations": rows(st.timedeltas(timedelta(days=-9999), timedelta(days=9999)) | MISSING).map(
        lambda v: pd.Series(pd.to_timedelta(v).as_unit("us"))
    ),
}


def same(one, other):
    return pd.isna(one) and pd.isna(other) if pd.isna(one) or pd.isna(other) else one == other


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(COLUMNS)))
def test_a_column_comes_back_over_json_and_over_the_wire(data, kind):
    frame = pd.DataFrame({"c": data.draw(COLUMNS[kind], label=kind)})
    columns = columns_of(frame)
    arrays = tensors(frame, columns)
    stored = from_json(json.loads(json.dumps(to_json(arrays), allow_nan=False)), columns)
    for found in (arrays, stored, over_the_wire(columns, arrays)):
        back = to_frame(found, columns=columns)["c"]
        assert all(same(a, b) for a, b in zip(back, frame["c"], strict=True)), (back, frame)
        if columns[0].zone:
            assert str(back.dt.tz) == columns[0].zone


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(COLUMNS)))
def test_the_signature_of_what_came_back_is_the_same(data, kind):
    frame = pd.DataFrame({"c": data.draw(COLUMNS[kind], label=kind)})
    columns = columns_of(frame)
    back = to_frame(tensors(frame, columns), columns=columns)
    assert columns_of(back) == columns


def over_the_wire(columns, arrays):
    body, headers = encode(columns, arrays)
    length = int(headers["Inference-Header-Content-Length"])
    answer = body[:length].replace(b'"inputs"', b'"outputs"')
    return decode(answer + body[length:], len(answer))


def test_infinities_travel_as_tensors():
    frame = pd.DataFrame({"c": [np.inf, -np.inf, 1.0]})
    columns = columns_of(frame)
    assert to_frame(over_the_wire(columns, tensors(frame, columns)), columns=columns)["c"].tolist() == [
        np.inf,
        -np.inf,
        1,
    ]


@pytest.mark.parametrize(
    ("values", "column", "says"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], Column(name="y", dtype="FP32"), "a row holds several values"),
        ([1j, 2.0], Column(name="y", dtype="FP64"), "complex numbers"),
        ([[1j, 2.0]], Column(name="y", dtype="FP64", shape=(2,)), "complex numbers"),
        ([[1.5, 2.0]], Column(name="y", dtype="INT64", shape=(2,)), "not exactly representable"),
    ],
)
def test_what_would_lose_something_is_refused(values, column, says):
    with pytest.raises(ValueError, match=says):
        portable.encode(values, column)


def test_one_value_a_row_may_be_a_matrix_of_one_column():
    assert portable.encode(np.array([[1.0], [2.0]]), Column(name="y", dtype="FP32")).tolist() == [[1.0], [2.0]]
