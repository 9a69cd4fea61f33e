"""Labels as they are posted and as the gates' judge reads them."""

import io

import pandas as pd
import pytest

from themisto.errors import Conflict
from themisto.serving.models import Column, Signature
from themisto_hub.control.serving.labelled import labelled
from themisto_hub.control.serving.labels import Labels
from themisto_hub.gateway.predictions import write_parquet

CLASSIFIER = Signature(
    inputs=(Column(name="time", dtype="FP32"), Column(name="x", dtype="FP32")),
    outputs=(Column(name="label", dtype="INT64"), Column(name="probabilities", dtype="FP32", shape=(2,))),
)


def frame(*ids):
    file = io.BytesIO()
    pd.DataFrame({"id": ids, "label": 1.0}).to_parquet(file)
    return file.getvalue()


def test_labels_by_a_personal_key_are_refused_and_by_request_are_taken(world):
    world.promoted(personal={"themisto-key": "hash"})
    world.promoted(cell="declares nothing, which brings nothing back")
    labels = Labels(world.control)
    with pytest.raises(Conflict, match="keys of 'credit' are personal") as refused:
        labels.post(world.caller(), "credit", frame("kim"), on="key")
    assert "request_id" in refused.value.remedy
    assert labels.post(world.caller(), "credit", frame("r1")).new == 1


def test_labels_by_key_are_taken_where_other_columns_are_personal(world):
    world.promoted(personal={"x": "drop"})
    assert Labels(world.control).post(world.caller(), "credit", frame("kim"), on="key").new == 1


def test_a_classifiers_own_label_stands_beside_the_truth(world):
    """Inputs and outputs may be called like columns of the log; most classifiers answer `label`."""
    golden = {"inputs": {"time": [1.0], "x": [1.0]}, "outputs": {"label": [1], "probabilities": [[0.2, 0.8]]}}
    world.promoted(signature=CLASSIFIER, golden=golden)
    row = {
        "time": world.clock(),
        "request_id": "r1",
        "endpoint": "credit",
        "release": "credit@1",
        "protocol": "http",
        "path": "/",
        "status": 200,
        "latency_ms": 1.0,
        "inputs": '{"time": [5.0], "x": [1.0]}',
        "outputs": '{"label": [0], "probabilities": [0.9, 0.1]}',
    }
    write_parquet(world.control.settings.folder("gateway") / "predictions", "part-000000", [row])
    Labels(world.control).post(world.caller(), "credit", frame("r1"))
    known = labelled(world.control, "credit", 1)
    assert (known["label"].to_pylist(), known["outputs.label"].to_pylist()) == ([1.0], [0])
    assert known["inputs.time"].to_pylist() == [5.0]
    assert known.column_names.count("label") == known.column_names.count("time") == 1
