"""Default answers: whole answers of the protocol for the request's rows, for Envoy alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tritonclient.http
from tritonclient.grpc.service_pb2 import ModelInferRequest

from themisto.errors import Invalid, NotFound, Refused
from themisto.serving.models import Column
from themisto_hub.gateway.default_answers import DefaultAnswers, asked_for
from themisto_hub.gateway.fallback import DefaultAnswer
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_table import FeatureTable

KEY = "key-of-defaults"
DEFAULT = DefaultAnswer(
    outputs=(
        Column(name="label", dtype="BYTES"),
        Column(name="probabilities", dtype="FP32", shape=(2,)),
        Column(name="rank", dtype="INT64", shape=()),
    ),
    values={"label": "unknown", "probabilities": [0.75, 0.25], "rank": 3},
)


@pytest.fixture
def answers(tmp_path) -> DefaultAnswers:
    table = FeatureTable(defaults={"credit--8": DEFAULT})
    return DefaultAnswers(Watched(tmp_path / "none", FeatureTable.model_validate_json, table), KEY)


def request(*shapes, **more):
    return {"inputs": [{"name": f"x{i}", "datatype": "FP32", "shape": s} for i, s in enumerate(shapes)], **more}


def test_json_has_one_row_of_each_output_for_each_of_the_request(answers):
    body, length = answers.http("credit--8", KEY, request([3, 1], [3, 1], id="mine"))
    assert length is None
    assert json.loads(body) == {
        "model_name": "credit--8",
        "model_version": "1",
        "id": "mine",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [3, 1], "data": ["unknown"] * 3},
            {"name": "probabilities", "datatype": "FP32", "shape": [3, 2], "data": [0.75, 0.25] * 3},
            {"name": "rank", "datatype": "INT64", "shape": [3], "data": [3, 3, 3]},
        ],
    }


def test_binary_is_what_tritonclient_reads(answers):
    body, length = answers.http("credit--8", KEY, request([2, 1], parameters={"binary_data_output": True}))
    result = tritonclient.http.InferResult.from_response_body(body, header_length=length)
    assert result.as_numpy("label").tolist() == [[b"unknown"], [b"unknown"]]
    assert result.as_numpy("probabilities").tolist() == [[0.75, 0.25]] * 2
    assert result.as_numpy("rank").tolist() == [3, 3]


def test_only_what_is_asked_for_comes(answers):
    wanted = [{"name": "rank", "parameters": {"binary_data": True}}]
    body, length = answers.http("credit--8", KEY, request([1, 1], outputs=wanted))
    (output,) = json.loads(body[:length])["outputs"]
    assert output == {"name": "rank", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}}
    assert np.frombuffer(body[length:], np.int64).tolist() == [3]
    with pytest.raises(Invalid, match="no output other"):
        answers.http("credit--8", KEY, request([1, 1], outputs=[{"name": "other"}]))


@pytest.mark.parametrize(
    "header",
    [
        None,
        [],
        {},
        {"inputs": 3},
        {"inputs": []},
        {"inputs": [None]},
        {"inputs": [{}]},
        request([0, 1]),
        request([-1]),
        request([]),
        request([True]),
        request(["2"]),
        request([2, 1], [3, 1]),
        request([10**9, 1]),
    ],
)
def test_request_without_rows_is_the_callers_mistake(answers, header):
    with pytest.raises(Invalid):
        answers.http("credit--8", KEY, header)


def test_grpc_answers_the_same(answers):
    asked = ModelInferRequest(model_name="credit--8", id="mine")
    asked.inputs.add(name="x", datatype="FP32", shape=[2, 1])
    answer = answers.grpc("credit--8", KEY, asked)
    assert (answer.id, [list(o.shape) for o in answer.outputs]) == ("mine", [[2, 1], [2, 2], [2]])
    assert np.frombuffer(answer.raw_output_contents[1], np.float32).tolist() == [0.75, 0.25] * 2
    with pytest.raises(Invalid):
        answers.grpc("credit--8", KEY, ModelInferRequest())


@pytest.mark.parametrize("shown", ["", "guessed", "ключ"])
def test_nobody_but_envoy_gets_one(answers, shown):
    with pytest.raises(Refused):
        answers.http("credit--8", shown, request([1, 1]))


def test_without_a_key_of_its_own_it_answers_nobody(tmp_path):
    table = Watched(tmp_path / "none", FeatureTable.model_validate_json, FeatureTable(defaults={"credit--8": DEFAULT}))
    with pytest.raises(Refused):
        DefaultAnswers(table, "").http("credit--8", "", request([1, 1]))


def test_release_that_declared_none_has_none(answers):
    with pytest.raises(NotFound):
        answers.http("credit--9", KEY, request([1, 1]))


def test_only_envoys_own_header_asks_for_one():
    assert asked_for({"x-fallback": "default"})
    assert not asked_for({"x-fallback": "rule"})
    assert not asked_for({})
