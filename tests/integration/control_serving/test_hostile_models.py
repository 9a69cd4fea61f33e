"""Models made to do harm: each fails with its cause, and nothing else happens."""

from __future__ import annotations

import os
import pickle

import pytest

pytestmark = pytest.mark.timeout(150)


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def reads_file(location):
    """An ONNX model whose answer is made of the bytes of a file."""
    from onnx import TensorProto, helper

    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])
    graph = helper.make_graph([node], "reads", [given], [answer], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


def released(plane, new_request, data, **change):
    plane.upload(data)
    answer = plane.call("POST", "/endpoints/credit/releases", json=new_request(data, **change))
    assert answer.status_code == 201, answer.text
    return plane.wait_for("credit", "done", "failed", "waiting_approval", timeout_s=60)["rollout"]


@pytest.mark.parametrize("location", ["/proc/self/cmdline", "../../../../../etc/passwd", "file:///etc/passwd"])
def test_a_model_cannot_read_files_of_its_server(tritons, reconciled, new_request, location):
    tritons.start("dev")
    rollout = released(reconciled, new_request, reads_file(location))
    assert (rollout["state"], rollout["stage"]) == ("failed", "load")
    assert "xternal data" in rollout["message"]


@pytest.mark.parametrize("tier", ["dev", "prod"])
def test_a_pickle_is_not_opened(tritons, reconciled, new_request, tmp_path, tier):
    tritons.start("dev")
    made = tmp_path / "made"
    rollout = released(reconciled, new_request, pickle.dumps(Touch(made)), tier=tier)
    assert rollout["state"] == "failed"
    assert not made.exists()
