"""The tensor codec and the log's reader, given anything: what goes in comes out, and what is garbage is said so."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from themisto.errors import Invalid
from themisto_hub.gateway.feature_entities import DTYPES, Tensor, pack, unpack
from themisto_hub.gateway.feature_http import _split
from themisto_hub.gateway.predictions import prediction

FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.text(st.characters())
"""Lone surrogates too: JSON can say them, UTF-8 cannot."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=8) | JSON,
        "datatype": st.sampled_from([*DTYPES, "BYTES", "FP16", ""]) | JSON,
        "shape": st.lists(st.integers(-2, 5), max_size=3) | JSON,
        "data": JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-5, 40) | JSON}) | JSON,
    },
)
REQUEST = st.fixed_dictionaries({"inputs": st.lists(TENSOR | JSON, max_size=3) | JSON}) | JSON


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_numbers_come_out_as_they_went_in(datatype):
    @FUZZ
    @given(values=arrays.arrays(DTYPES[datatype], st.integers(0, 20)))
    def check(values):
        tensor = Tensor(name="x", datatype=datatype, shape=(-1,))
        again = np.array(unpack(datatype, pack(tensor, values.tolist())), DTYPES[datatype])
        assert again.tobytes() == values.tobytes() or np.array_equal(again, values, equal_nan=True)

    check()


@FUZZ
@given(values=st.lists(TEXT, max_size=8))
def test_text_comes_out_as_it_went_in(values):
    tensor = Tensor(name="x", datatype="BYTES", shape=(-1,))
    try:
        packed = pack(tensor, values)
    except Invalid:
        assert any("\ud800" <= sign <= "\udfff" for text in values for sign in text)
        return
    assert unpack("BYTES", packed) == values


@FUZZ
@given(datatype=st.sampled_from([*DTYPES, "BYTES", "FP16", ""]), raw=st.binary(max_size=64))
def test_any_bytes_are_values_or_invalid(datatype, raw):
    try:
        values = unpack(datatype, raw)
    except Invalid:
        return
    if datatype != "BYTES":
        assert len(values) * np.dtype(DTYPES[datatype]).itemsize == len(raw)


@FUZZ
@given(datatype=st.sampled_from([*DTYPES, "BYTES", "FP16"]), values=st.lists(JSON, max_size=5))
def test_any_values_are_packed_or_invalid(datatype, values):
    try:
        packed = pack(Tensor(name="x", datatype=datatype, shape=(-1,)), values)
    except Invalid:
        return
    assert isinstance(packed, bytes)


@FUZZ
@given(head=REQUEST, tail=st.binary(max_size=40), cut=st.integers(-3, 3), given_length=st.booleans())
def test_any_body_is_split_or_invalid(head, tail, cut, given_length):
    text = json.dumps(head).encode()
    length = str(len(text) + cut) if given_length else None
    try:
        header, parts = _split(text + tail, length)
    except Invalid:
        return
    assert isinstance(header["inputs"], list)
    assert all(isinstance(part, bytes) for part in parts.values())


@FUZZ
@given(
    request=st.binary(max_size=80) | REQUEST.map(lambda r: json.dumps(r).encode()),
    answer=st.binary(max_size=80) | REQUEST.map(lambda r: json.dumps(r).encode()),
    grpc=st.booleans(),
    length=st.none() | st.text(max_size=4) | st.integers(0, 99).map(str),
)
def test_any_bodies_make_a_row_that_is_strict_json(request, answer, grpc, length):
    line = {
        "time": "1795252287.161941",
        "path": "/inference.GRPCInferenceService/ModelInfer" if grpc else "/v2/models/credit/infer",
        "endpoint": "credit",
        "caller": "scientist",
        "header_length": length,
        "answer_header_length": length,
        "request": base64.b64encode(request).decode(),
        "response": base64.b64encode(answer).decode(),
    }
    row = prediction(line)
    assert row["caller"] == "scientist"
    for side in ("inputs", "outputs"):
        if row[side] is not None:
            row[side].encode()  # Parquet's text is UTF-8
            json.loads(row[side], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@FUZZ
@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_nan_and_infinities_are_null_in_the_log(value):
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [value]}]})
    line = {
        "time": "1795252287",
        "path": "/v2/models/credit/infer",
        "request": base64.b64encode(body.encode()).decode(),
    }
    kept = json.loads(prediction(line)["inputs"])["x"][0]
    assert kept == (value if math.isfinite(value) else None)
