"""A frame's digest: the same for the same data however it is held, another for any other data."""

import hashlib
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from themisto.errors import Invalid
from themisto.tracking.digest import combined, digest, is_frame
from themisto.tracking.models import DataDigest

FRAME = pd.DataFrame(
    {
        "n": [1, 2, 3],
        "x": [0.5, None, -0.0],
        "s": ["a", None, "ccc"],
        "b": [True, False, True],
        "t": pd.to_datetime(["2013-01-01", None, "2013-01-03"]),
        "c": pd.Categorical(["u", "v", "u"]),
    }
)


def sha(frame):
    return digest("frame", frame).sha256


def test_same_data_same_digest():
    assert sha(FRAME) == sha(FRAME.copy(deep=True))
    assert (digest("frame", FRAME).rows, digest("frame", FRAME).columns) == (3, 6)


def test_the_digest_is_the_one_that_is_written_down():
    frame = pa.table({"k": pa.array([1, None], pa.int64()), "s": ["ä", ""], "x": pa.array([1.5, float("nan")])})

    def number(value):
        return struct.pack("<q", value)

    def text(value):
        return number(len(value.encode())) + value.encode()

    spec = text("themisto-frame-1") + number(2) + number(3)
    spec += text("k") + text("int64") + number(1) + bytes([0b01000000]) + number(1) + number(0)
    spec += text("s") + text("string") + number(0) + number(2) + number(0) + "ä".encode()
    spec += text("x") + text("double") + number(0) + struct.pack("<dd", 1.5, np.nan)
    assert sha(frame) == hashlib.sha256(spec).hexdigest()


def test_chunks_slices_and_offsets_do_not_matter():
    table = pa.Table.from_pandas(FRAME)
    assert sha(pa.concat_tables([table.slice(0, 1), table.slice(1)])) == sha(table)
    padded = pa.concat_tables([table, table]).slice(3)
    assert sha(padded) == sha(table)


@pytest.mark.parametrize("column", ["n", "x", "s", "b", "t", "c"])
def test_any_cell_changes_it(column):
    changed = FRAME.copy()
    for row in range(3):
        other = FRAME.loc[(row + 1) % 3, column]
        if row == 0:
            changed.loc[row, column] = other
    assert sha(changed) != sha(FRAME)


def test_missing_is_not_zero_nor_empty():
    assert sha(pa.table({"x": [1, None]})) != sha(pa.table({"x": [1, 0]}))
    assert sha(pa.table({"s": ["a", None]})) != sha(pa.table({"s": ["a", ""]}))


def test_what_lies_beneath_a_missing_cell_does_not_matter():
    mask = pa.array([True, False]).buffers()[1]
    values = [pa.array([1, n], pa.int64()).buffers()[1] for n in (7, 8)]
    first, second = (pa.Array.from_buffers(pa.int64(), 2, [mask, v]) for v in values)
    assert sha(pa.table({"x": first})) == sha(pa.table({"x": second}))


def test_type_name_and_order_matter():
    table = pa.table({"a": pa.array([1, 2], pa.int64()), "b": pa.array([3, 4], pa.int64())})
    assert sha(table.set_column(0, "a", table["a"].cast(pa.int32()))) != sha(table)
    assert sha(table.rename_columns(["a", "c"])) != sha(table)
    assert sha(table.select(["b", "a"])) != sha(table)
    assert sha(table.take([1, 0])) != sha(table)
    assert sha(FRAME.astype({"c": str})) != sha(FRAME)


def test_cells_do_not_run_into_each_other():
    assert sha(pa.table({"s": ["ab", "c"]})) != sha(pa.table({"s": ["a", "bc"]}))
    assert sha(pa.table({"s": [["a"], ["b", "c"]]})) != sha(pa.table({"s": [["a", "b"], ["c"]]}))


def test_string_and_large_string_are_one_type():
    small = pa.table({"s": pa.array(["a", "b"], pa.string())})
    assert sha(small) == sha(pa.table({"s": pa.array(["a", "b"], pa.large_string())}))


def test_an_index_of_its_own_is_data():
    assert sha(FRAME.set_index("n")) == sha(FRAME)
    assert sha(FRAME[1:].reset_index(drop=True)) != sha(FRAME[1:])


def test_numpy_series_and_nested_columns():
    assert digest("m", np.ones((4, 2))).columns == 2
    assert sha(pd.Series([1, 2], name="n")) == sha(pd.DataFrame({"n": [1, 2]}))
    nested = pa.table({"l": [[1, 2], None, []], "d": [{"a": 1}, {"a": None}, None]})
    assert sha(nested) == sha(nested.slice(0))
    assert sha(pa.table({"x": pa.nulls(2)})) != sha(pa.table({"x": pa.nulls(3)}))
    assert sha(FRAME[:0]) != sha(FRAME)


@pytest.mark.parametrize("value", [1, "text", [1, 2], np.float64(1.0)])
def test_what_is_no_frame_is_refused(value):
    assert not is_frame(value)
    with pytest.raises(Invalid, match="not a data frame"):
        digest("thing", value)


def test_a_column_of_objects_is_refused_by_name():
    with pytest.raises(Invalid, match="frame"):
        digest("frame", pd.DataFrame({"o": [object(), 1]}))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=40), st.integers(0, 39))
def test_one_changed_integer_is_seen(values, place):
    table = pa.table({"x": pa.array(values, pa.int64())})
    if place < len(values):
        values[place] = 0 if values[place] is None or values[place] else 1
        assert sha(pa.table({"x": pa.array(values, pa.int64())})) != sha(table)
    assert sha(pa.table({"x": pa.chunked_array([table["x"].combine_chunks()])})) == sha(table)


def test_several_frames_have_one_digest_by_name():
    a, b = (DataDigest(name=n, sha256=c * 64, rows=2, columns=1) for n, c in (("a", "0"), ("b", "1")))
    assert combined({}) == (None, None)
    assert combined({"a": a}) == ("0" * 64, 2)
    assert combined({"a": a, "b": b}) == combined({"b": b, "a": a})
    assert combined({"a": a, "b": b})[1] == 4
