"""The prediction log: every request once, with its bodies, whatever is killed meanwhile."""

from __future__ import annotations

import json
import signal

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tests.integration.gateway.parts import wait_until
from tests.integration.gateway.reading import read

from themisto_hub.gateway.log import FOLDER, Tail


def logged(gateway, caller: str, limit: int = 1000):
    return [
        row for row in read(gateway.settings.folder("gateway") / FOLDER, "credit", limit) if row["caller"] == caller
    ]


def test_requests_are_in_parquet_with_what_went_in_and_out(credit):
    headers = credit.headers(sub="logged")
    credit.infer("credit", 41.0, headers=headers, **{"themisto-key": "customer-1"})
    tensor = tritonclient.http.InferInput("x", [2, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[1], [np.nan]], np.float32))
    with tritonclient.http.InferenceServerClient(credit.url.removeprefix("http://")) as client:
        client.infer("credit", [tensor], headers=dict(headers))  # it writes into them
    tensor = tritonclient.grpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[3]], np.float32))
    with tritonclient.grpc.InferenceServerClient(credit.settings.gateway_grpc) as client:
        client.infer("credit", [tensor], headers=headers)
    wait_until(lambda: len(logged(credit, "logged")) >= 3, "the log", 15)
    grpc, binary, json = logged(credit, "logged")
    assert (json["inputs"], json["outputs"]) == ({"x": [41.0]}, {"y": [42.0]})
    assert (json["release"], json["status"], json["protocol"], json["key"]) == ("credit@1", 200, "http", "customer-1")
    assert (binary["inputs"], binary["outputs"]) == ({"x": [1.0, None]}, {"y": [2.0, None]})
    assert (grpc["inputs"], grpc["outputs"]) == ({"x": [3.0]}, {"y": [4.0]})
    assert (grpc["release"], grpc["status"], grpc["protocol"], grpc["path"]) == (
        "credit@1",
        0,
        "grpc",
        "/inference.GRPCInferenceService/ModelInfer",
    )


def test_refusals_are_logged_too(credit):
    credit.infer("credit", headers=credit.headers(sub="outsider", groups=["model-risk"]))
    wait_until(lambda: bool(logged(credit, "outsider")), "the log", 15)
    assert logged(credit, "outsider")[0]["status"] == 403


def test_nothing_is_lost_or_doubled_by_rotation_and_kills(credit):
    headers = credit.headers(sub="counted")
    credit.log.stop()
    folder = credit.settings.folder("gateway")
    mark = folder / "predictions.log.mark"
    tail = Tail(folder, rotate_bytes=2000)

    def generation() -> int:
        return json.loads(mark.read_text())["generation"]  # counts files; an inode may come back

    first = generation()
    try:
        for number in range(60):
            credit.infer("credit", float(number), headers=headers)
            if number % 10 == 0:
                tail.step(flush=number % 20 == 0)
            if number % 25 == 0:
                tail = Tail(folder, rotate_bytes=2000)  # killed: nothing of its memory is left

        def whole() -> bool:
            tail.step(flush=True)
            return len(logged(credit, "counted")) >= 60

        wait_until(whole, "all lines", 15)
        assert sorted(row["inputs"]["x"][0] for row in logged(credit, "counted")) == [float(n) for n in range(60)]
        wait_until(lambda: tail.step(flush=True) or generation() > first, "rotation", 15)
    finally:
        credit.log.start()


def test_log_survives_its_writers_death(credit):
    credit.log.stop(signal.SIGKILL)
    credit.infer("credit", headers=credit.headers(sub="meanwhile"))
    credit.log.start()
    wait_until(lambda: len(logged(credit, "meanwhile")) == 1, "the log", 15)
