"""Golden requests: what counts as the same answer."""

from __future__ import annotations

import pytest

from themisto.errors import ParityError
from themisto.serving.models import Column, Golden, ServingConfig, Signature
from themisto_hub.control.serving import goldens


def replay(world, golden, answer, *, dtype="FP32", **serving):
    made = world.release()
    signature = Signature(inputs=made.signature.inputs, outputs=(Column(name="y", dtype=dtype),))
    change = {"golden": golden, "serving": ServingConfig(**serving), "signature": signature}
    return goldens.replay(made.model_copy(update=change), answer)


def test_answers_within_tolerance_are_the_same(world):
    golden = Golden(inputs={"x": [1.0, 2.0]}, outputs={"y": [[0.1, 0.9], [0.2, 0.8]]})
    assert replay(world, golden, lambda _: {"y": [[0.1000001, 0.9], [0.2, 0.8000001]]}) == 2


def test_rows_are_sent_in_batches_that_the_model_takes(world):
    sent = []
    golden = Golden(inputs={"x": list(range(5))}, outputs={"y": list(range(5))})

    def answer(inputs):
        sent.append(len(inputs["x"]))
        return {"y": inputs["x"]}

    assert replay(world, golden, answer, max_batch=2) == 5
    assert sent == [2, 2, 1]


@pytest.mark.parametrize(
    ("dtype", "want", "have"),
    [
        ("FP32", [1.0], [1.01]),
        ("BYTES", ["yes"], ["no"]),
        ("BOOL", [True], [1]),
        ("INT64", [1_000_000], [1_000_001]),
        ("FP32", [[1.0, 2.0]], [[1.0]]),
        ("FP32", [1.0], []),
        ("FP32", [1.0], [None]),
    ],
    ids=["number", "text", "bool is no number", "a label is exact", "shape", "rows", "nothing"],
)
def test_other_answers_name_the_row(world, dtype, want, have):
    golden = Golden(inputs={"x": [1.0]}, outputs={"y": want})
    with pytest.raises(ParityError, match="y"):
        replay(world, golden, lambda _: {"y": have}, dtype=dtype)


def test_worst_row_is_shown_first(world):
    golden = Golden(inputs={"x": [1.0, 2.0]}, outputs={"y": [1.0, 2.0]})
    with pytest.raises(ParityError, match=r"saw: row 1, y: 9.0 for 2.0; row 0"):
        replay(world, golden, lambda _: {"y": [1.1, 9.0]})
