"""What agrees and what does not; which rows become golden; the proof in a clean process."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from themisto.errors import ParityError
from themisto.serving.candidate import Candidate
from themisto.serving.exporter import exporter_for
from themisto.serving.models import Release, ReleaseRequest
from themisto.serving.parity import Tolerance, compare, golden_of
from themisto.types import new_ulid, utcnow

FRAME = pd.DataFrame({"a": [1.0, 2.0, 3.0]})


def column(*values, dtype=np.float32):
    return np.array(values, dtype=dtype).reshape(len(values), -1)


def test_within_tolerance_agrees():
    found = compare({"prediction": column(1, 2, 3)}, {"prediction": column(1.00001, 2, 3)}, FRAME, Tolerance())
    assert found.rows == 3
    assert found.worst == pytest.approx(1e-5, rel=0.1)


def test_the_worst_row_comes_first_with_its_values():
    with pytest.raises(ParityError) as caught:
        compare({"prediction": column(1, 2, 3)}, {"prediction": column(1, 2.5, 9)}, FRAME, Tolerance())
    lines = caught.value.detail.splitlines()
    assert "2 of 3 rows" in lines[0]
    assert lines[2].split() == ["row", "expected", "prediction", "got", "difference", "a"]
    assert lines[3].split() == ["2", "3", "9", "6", "3"]


@pytest.mark.parametrize(
    ("expected", "got", "agrees"),
    [
        ([np.nan], [np.nan], True),
        ([np.nan], [1.0], False),
        ([1.0], [np.nan], False),
        ([np.inf], [np.inf], True),
        ([np.inf], [-np.inf], False),
        ([0.0], [1e-6], True),
        ([0.0], [1e-4], False),
    ],
)
def test_missing_and_infinite_answers(expected, got, agrees):
    def check():
        return compare({"p": column(*expected)}, {"p": column(*got)}, FRAME.head(1), Tolerance())

    if agrees:
        check()
    else:
        with pytest.raises(ParityError):
            check()


def test_a_label_may_differ_only_where_probabilities_tie():
    tie, clear = column([0.5, 0.5]), column([0.4, 0.6])
    labels = {"label": column(0, dtype=np.int64)}, {"label": column(1, dtype=np.int64)}
    one = FRAME.head(1)
    compare(labels[0] | {"probabilities": tie}, labels[1] | {"probabilities": tie}, one, Tolerance())
    with pytest.raises(ParityError):
        compare(labels[0] | {"probabilities": clear}, labels[1] | {"probabilities": clear}, one, Tolerance())


def test_large_answers_are_compared_in_their_own_size():
    big, near_zero = column(1e6, 1e6, 1.0), column(1e6, 1e6, 1.5)
    compare({"p": big}, {"p": near_zero}, FRAME, Tolerance())
    with pytest.raises(ParityError):
        compare({"p": big}, {"p": near_zero}, FRAME, Tolerance(scale=False))


def test_another_shape_is_not_an_answer():
    with pytest.raises(ParityError, match="shape"):
        compare({"p": column(1, 2, 3)}, {"p": column([1, 1], [2, 2], [3, 3])}, FRAME, Tolerance())
    with pytest.raises(ParityError, match="shape None"):
        compare({"p": column(1, 2, 3)}, {}, FRAME, Tolerance())


def test_golden_rows_leave_out_ties_and_missing_answers():
    expected = {
        "label": column(0, 1, 1, dtype=np.int64),
        "probabilities": column([0.5, 0.5], [0.1, 0.9], [np.nan, np.nan]),
    }
    parity = compare(expected, expected, FRAME, Tolerance())
    golden = golden_of({"a": column(1, 2, 3)}, expected, parity, Tolerance())
    assert golden.inputs == {"a": [2.0]}
    assert golden.outputs["label"] == [1]


def test_golden_requests_are_json_with_null_for_missing():
    expected = {"p": column(1, 2, 3)}
    parity = compare(expected, expected, FRAME, Tolerance())
    golden = golden_of({"a": column(np.nan, 2, 3)}, expected, parity, Tolerance())
    assert golden.inputs["a"][0] is None
    json.dumps(golden.model_dump(mode="json"), allow_nan=False)


@pytest.fixture
def stored(booster, numbers, tmp_path):
    """A release and its artifact in a folder, as the control plane lays them out."""
    candidate = Candidate.exported(exporter_for(booster), booster, numbers)
    _, golden = candidate.prove(Tolerance())
    request = ReleaseRequest(
        group="data-science",
        artifact=candidate.export.artifact,
        signature=candidate.export.signature,
        golden=golden,
    )
    return release_in(tmp_path, request, candidate.export.data)


def release_in(folder, request, data):
    fields = {name: getattr(request, name) for name in ReleaseRequest.model_fields}
    release = Release(
        **fields,
        id=new_ulid(),
        endpoint="credit",
        number=1,
        author="scientist",
        created_at=utcnow(),
        hash=request.content_hash,
    )
    (folder / "release.json").write_text(release.model_dump_json())
    (folder / f"model.{request.artifact.kind}").write_bytes(data)
    return folder


def prove(folder):
    command = [sys.executable, "-I", "-m", "themisto.serving.prove", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    return done.returncode, json.loads(done.stdout)


def test_a_clean_process_repeats_the_goldens(stored):
    code, said = prove(stored)
    assert code == 0
    assert said["agrees"] is True
    assert said["rows"] == 32


def test_a_changed_golden_is_not_proved(stored):
    release = json.loads((stored / "release.json").read_text())
    release["golden"]["outputs"]["probabilities"][3] = [0.9, 0.1]
    (stored / "release.json").write_text(json.dumps(release))
    code, said = prove(stored)
    assert code == 1
    assert "1 of 32 rows" in said["detail"]


def test_a_changed_artifact_is_not_proved(stored):
    (stored / "model.onnx").write_bytes(b"other")
    code, said = prove(stored)
    assert code == 1
    assert "not the one" in said["detail"]


def test_an_empty_folder_could_not_be_tried(tmp_path):
    code, said = prove(tmp_path)
    assert code == 2
    assert said["agrees"] is None
