"""What perf_analyzer is given and what is read of its answer."""

from __future__ import annotations

import json

import pytest

from themisto.serving.models import Column, Golden, Signature
from themisto_hub.control.serving.perf import _measured, write_inputs

SIGNATURE = Signature(
    inputs=(
        Column(name="x", dtype="FP32"),
        Column(name="n", dtype="INT64", shape=()),
        Column(name="s", dtype="BYTES"),
        Column(name="b", dtype="BOOL"),
        Column(name="v", dtype="FP64", shape=(2,)),
    ),
    outputs=(Column(name="y", dtype="FP32"),),
)


def test_rows_are_of_the_types_it_takes_and_at_most_32(tmp_path):
    golden = Golden(
        inputs={
            "x": [1, None] * 20,
            "n": [3, 4] * 20,
            "s": ["a", None] * 20,
            "b": [True, None] * 20,
            "v": [[1, 2.5], [None, 0]] * 20,
        },
        outputs={"y": [0.0] * 40},
    )
    write_inputs(tmp_path / "in.json", golden, SIGNATURE)
    rows = json.loads((tmp_path / "in.json").read_text())["data"]
    assert len(rows) == 32
    assert rows[1] == {
        "x": {"content": [0.0], "shape": [1]},
        "n": {"content": [4], "shape": [1]},
        "s": {"content": [""], "shape": [1]},
        "b": {"content": [False], "shape": [1]},
        "v": {"content": [0.0, 0.0], "shape": [2]},
    }
    assert '"content": [1.0]' in (tmp_path / "in.json").read_text()


def test_its_answer_is_read_by_name_and_in_milliseconds(tmp_path):
    file = tmp_path / "measured.csv"
    file.write_text(
        "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency\n"
        "4,1234.5,10,1500,1800,2000,3000\n"
    )
    assert _measured(file) == pytest.approx({"requests_per_s": 1234.5, "p50_ms": 1.5, "p95_ms": 2.0, "p99_ms": 3.0})
    file.write_text("Concurrency,Inferences/Second\n")
    with pytest.raises(StopIteration):
        _measured(file)
