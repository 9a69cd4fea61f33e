"""The model of these tests: `late`, which needs two features and one input that is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from onnx import TensorProto, helper

from themisto.serving.models import Column, Signature

RELEASE = "late--7"
ROWS = pd.DataFrame(
    {
        "origin": ["JFK", "LGA", "EWR"],
        "time_hour": pd.to_datetime(["2013-01-01 10:00"] * 3),
        "temp": [1.0, 2.0, float("nan")],
        "gate": ["A", "B", "C"],
    }
)
SIGNATURE = Signature(
    inputs=(
        Column(name="temp", dtype="FP32"),
        Column(name="gate", dtype="BYTES"),
        Column(name="distance", dtype="FP64"),
    ),
    outputs=(Column(name="sum", dtype="FP64"), Column(name="at_gate", dtype="BYTES")),
)


def model() -> bytes:
    """sum = temp + distance; at_gate = gate."""
    shape = ["n", 1]
    inputs = [
        helper.make_tensor_value_info("temp", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("gate", TensorProto.STRING, shape),
        helper.make_tensor_value_info("distance", TensorProto.DOUBLE, shape),
    ]
    outputs = [
        helper.make_tensor_value_info("sum", TensorProto.DOUBLE, shape),
        helper.make_tensor_value_info("at_gate", TensorProto.STRING, shape),
    ]
    nodes = [
        helper.make_node("Cast", ["temp"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Add", ["wide", "distance"], ["sum"]),
        helper.make_node("Identity", ["gate"], ["at_gate"]),
    ]
    graph = helper.make_graph(nodes, "late", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return made.SerializeToString()


def http_inputs(origins: list[str], *, binary: bool):
    key = triton_http.InferInput("origin", [len(origins), 1], "BYTES")
    key.set_data_from_numpy(np.array([[o] for o in origins], dtype=object), binary_data=binary)
    distance = triton_http.InferInput("distance", [len(origins), 1], "FP64")
    distance.set_data_from_numpy(np.full((len(origins), 1), 100.0), binary_data=binary)
    return [key, distance]


def grpc_inputs(origins: list[str]):
    key = triton_grpc.InferInput("origin", [len(origins), 1], "BYTES")
    key.set_data_from_numpy(np.array([[o] for o in origins], dtype=object))
    distance = triton_grpc.InferInput("distance", [len(origins), 1], "FP64")
    distance.set_data_from_numpy(np.full((len(origins), 1), 100.0))
    return [key, distance]
