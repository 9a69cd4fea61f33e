"""DataFrames as typed tensors, and back."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from themisto.errors import Invalid
from themisto.serving.frame import columns_of, from_json, pick, tensors, to_frame, to_json
from themisto.serving.gateway import decode, encode
from themisto.serving.models import Column


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (pd.Series([1, 2]), "INT64"),
        (pd.Series([1, 2], dtype="int32"), "INT32"),
        (pd.Series([1, 2], dtype="uint8"), "INT32"),
        (pd.Series([1, None], dtype="Int64"), "FP64"),
        (pd.Series([1, 2], dtype="Int64"), "INT64"),
        (pd.Series([1.5, 2]), "FP64"),
        (pd.Series([1.5, 2], dtype="float32"), "FP32"),
        (pd.Series([True, False]), "BOOL"),
        (pd.Series([True, None], dtype="boolean"), "FP64"),
        (pd.Series(["a", None]), "BYTES"),
        (pd.Series(["a", "b"], dtype="string"), "BYTES"),
        (pd.Series(["a", "b"], dtype="category"), "BYTES"),
        (pd.Series([3, 5], dtype="category"), "INT64"),
        (pd.Series([1, 2], dtype=object), "INT64"),
        (pd.Series([1, 2], dtype="int64[pyarrow]"), "INT64"),
        (pd.Series(["a"], dtype="string[pyarrow]"), "BYTES"),
    ],
)
def test_pandas_dtypes_have_their_tensor_type(values, dtype):
    frame = pd.DataFrame({"c": values})
    columns = columns_of(frame)
    assert columns[0].dtype == dtype
    assert tensors(frame, columns)["c"].shape == (len(values), 1)


@pytest.mark.parametrize(
    ("values", "logical", "zone"),
    [
        (pd.to_datetime(["2026-01-01 10:00:00.000001", None]), "datetime", None),
        (pd.to_datetime(["2026-01-01", None], utc=True), "datetime", "UTC"),
        (pd.to_datetime(["2026-07-01 12:00"]).tz_localize("Asia/Seoul"), "datetime", "Asia/Seoul"),
        (pd.Series([datetime(2026, 1, 1, 3, tzinfo=UTC), None], dtype=object), "datetime", "UTC"),
        (pd.to_timedelta(["1h", None]), "duration", None),
        (pd.Series([date(2026, 1, 1), None], dtype=object), "date", None),
    ],
)
def test_times_travel_as_microseconds_and_say_what_they_are(values, logical, zone):
    frame = pd.DataFrame({"at": values})
    (column,) = columns_of(frame)
    assert (column.dtype, column.logical, column.zone, column.missing) == ("INT64", logical, zone, -(2**63))
    arrays = tensors(frame, [column])
    back = to_frame(from_json(json.loads(json.dumps(to_json(arrays))), [column]), columns=[column])["at"]
    assert [v for v in back if not pd.isna(v)] == [v for v in frame["at"] if not pd.isna(v)]
    assert back.isna().tolist() == frame["at"].isna().tolist()


def test_the_hour_of_a_time_is_the_same_on_the_other_side():
    frame = pd.DataFrame({"at": pd.to_datetime(["2026-07-01 12:00"]).tz_localize("Asia/Seoul")})
    columns = columns_of(frame)
    assert to_frame(tensors(frame, columns), columns=columns)["at"].dt.hour.tolist() == [12]


@pytest.mark.parametrize(
    ("sample", "given", "says"),
    [
        (pd.to_datetime(["2026-01-01"]), pd.to_datetime(["2026-01-01"], utc=True), "times with a zone"),
        (pd.to_datetime(["2026-01-01"], utc=True), pd.to_datetime(["2026-01-01"]), "times with a zone"),
        (pd.to_datetime(["2026-01-01"]), [1_767_225_600], "numbers are no datetimes"),
        (pd.to_datetime(["2026-01-01"]), ["soon"], "at"),
        (pd.to_datetime(["2026-01-01"]), [pd.Timestamp("2026-01-01") + pd.Timedelta(1, "ns")], "nanoseconds"),
        (pd.Series([date(2026, 1, 1)], dtype=object), [pd.Timestamp("2026-01-01 05:00")], "no time of day"),
        (pd.Series([1, None], dtype="Int64"), [1.5], "not whole"),
        (pd.Series([1, None], dtype="Int64"), [2**53 + 1], "not whole, or 2..53"),
        (pd.Series(["", "a", None], dtype=object), ["\u2400"], "stands for a missing value"),
    ],
)
def test_a_value_that_is_not_what_the_signature_says_is_refused(sample, given, says):
    columns = columns_of(pd.DataFrame({"at": sample}))
    with pytest.raises(Invalid, match=says) as caught:
        tensors(pd.DataFrame({"at": given}), columns)
    assert "'at'" in caught.value.detail


@pytest.mark.parametrize(
    ("values", "missing"),
    [(["a", "b"], None), (["a", ""], None), (["a", None], ""), (["a", np.nan, ""], "\u2400")],
)
def test_a_missing_text_is_declared_and_not_an_empty_one(values, missing):
    frame = pd.DataFrame({"c": pd.Series(values, dtype=object)})
    (column,) = columns_of(frame)
    assert column.missing == missing
    back = to_frame(tensors(frame, [column]), columns=[column])["c"]
    assert [None if pd.isna(v) else v for v in back] == [None if pd.isna(v) else v for v in values]


def test_a_signature_of_an_earlier_version_is_read_and_keeps_its_hash():
    stored = '{"name":"c","dtype":"BYTES","shape":[1]}'
    column = Column.model_validate_json(stored)
    assert column.model_dump_json() == stored
    assert tensors(pd.DataFrame({"c": [None, "a"]}), [column])["c"].tolist() == [[""], ["a"]]


def test_numbers_and_truths_with_missing_values_come_back_as_what_they_were():
    frame = pd.DataFrame({"n": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")})
    columns = columns_of(frame)
    assert [(c.dtype, c.logical) for c in columns] == [("FP64", "integer"), ("FP64", "boolean")]
    pd.testing.assert_frame_equal(to_frame(tensors(frame, columns), columns=columns), frame)


@pytest.mark.parametrize("values", [["a", 1], [[1], [2]], [{"a": 1}, None]])
def test_mixed_and_nested_values_are_refused(values):
    with pytest.raises(Invalid, match="a column is numbers, booleans, strings or times"):
        columns_of(pd.DataFrame({"c": pd.Series(values, dtype=object)}))


@pytest.mark.parametrize("name", ["", 'a"b', "a\\b", "a\nb", "x" * 201])
def test_names_that_no_server_takes_are_refused(name):
    with pytest.raises(Invalid, match="cannot be the name"):
        columns_of(pd.DataFrame({name: [1]}))


def test_a_column_that_is_there_twice_is_refused():
    with pytest.raises(Invalid, match="'a' is there twice"):
        columns_of(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(["x"], "FP64"), ([1.5], "INT64"), ([None], "INT64"), ([2], "BOOL"), ([2**40], "INT32")],
)
def test_a_value_that_the_type_cannot_hold_is_refused(values, dtype):
    with pytest.raises(Invalid, match="the model takes"):
        tensors(pd.DataFrame({"c": pd.Series(values, dtype=object)}), [Column(name="c", dtype=dtype)])


def test_whole_floats_are_integers_where_the_model_takes_them():
    assert tensors(pd.DataFrame({"c": [1.0, 2.0]}), [Column(name="c", dtype="INT64")])["c"].dtype == np.int64


def test_missing_columns_are_named_with_the_nearest():
    with pytest.raises(Invalid, match=r"'distance' \(there is 'distances'\), 'zone' missing"):
        pick(pd.DataFrame({"distances": [1]}), ["distance", "zone"], whose="the model")


def test_json_and_back_keeps_values():
    columns = [
        Column(name="n", dtype="FP32"),
        Column(name="s", dtype="BYTES"),
        Column(name="v", dtype="FP64", shape=(2,)),
    ]
    arrays = {
        "n": np.array([[1.5], [np.nan]], np.float32),
        "s": np.array([["ä"], [""]], object),
        "v": np.array([[1.0, 2.0], [3.0, np.nan]]),
    }
    back = from_json(to_json(arrays), columns)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


def test_the_wire_keeps_values():
    columns = [
        Column(name="s", dtype="BYTES"),
        Column(name="b", dtype="BOOL"),
        Column(name="i", dtype="INT32"),
        Column(name="v", dtype="FP32", shape=(2,)),
    ]
    arrays = {
        "s": np.array([["ä\0b"], [""]], object),
        "b": np.array([[True], [False]]),
        "i": np.array([[-1], [2]], np.int32),
        "v": np.array([[1, 2], [3, 4]], np.float32),
    }
    body, headers = encode(columns, arrays)
    length = int(headers["Inference-Header-Content-Length"])
    answer = body[:length].replace(b'"inputs"', b'"outputs"')
    back = decode(answer + body[length:], len(answer))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


def test_outputs_are_a_column_each():
    frame = to_frame(
        {"label": np.array([["a"], ["b"]], object), "probabilities": np.array([[0.1, 0.9], [0.5, 0.5]])}, [7, 8]
    )
    assert list(frame.index) == [7, 8]
    assert list(frame.label) == ["a", "b"]
    assert frame.probabilities[7] == [0.1, 0.9]
