"""PyTorch modules as ONNX; run by `make test-torch`, in an environment that has torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from themisto.errors import Invalid
from themisto.serving.candidate import Candidate
from themisto.serving.exporters.torch import Torch
from themisto.serving.parity import Tolerance
from themisto.serving.runner import run


@pytest.fixture
def sample():
    rng = np.random.default_rng(3)
    return pd.DataFrame({"hour": rng.integers(0, 24, 200), "dist": rng.normal(size=200), "temp": rng.normal(size=200)})


def proved(model, sample):
    """The candidate after the gate, exported twice with the same bytes, and asked with one row and with many."""
    exporter = Torch()
    assert exporter.accepts(model)
    candidate = Candidate.exported(exporter, model, sample)
    candidate.prove(Tolerance())
    assert exporter.export(model, candidate.frame).artifact == candidate.export.artifact
    for rows in (1, 7):
        answers = run(candidate.export, {name: array[:rows] for name, array in candidate.inputs.items()})
        assert {len(array) for array in answers.values()} == {rows}
    return candidate


def outputs(candidate):
    return {c.name: (c.dtype, c.shape) for c in candidate.export.signature.outputs}


def test_layers_with_dropout_and_batch_norm_are_exported_as_they_evaluate(sample):
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
    )
    model.train()
    assert outputs(proved(model, sample)) == {"prediction": ("FP32", (2,))}
    assert model.training
    assert model[3].training


def test_a_dict_names_the_outputs_and_one_of_rank_one_becomes_a_column(sample):
    class Heads(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Linear(3, 4)

        def forward(self, features):
            hidden = self.body(features)
            return {"score": torch.sigmoid(hidden[:, 0]), "band": hidden.argmax(dim=1)}

    assert outputs(proved(Heads(), sample)) == {"score": ("FP32", (1,)), "band": ("INT64", (1,))}


def test_doubles_are_served_as_floats(sample):
    assert outputs(proved(torch.nn.Linear(3, 1).double(), sample)) == {"prediction": ("FP32", (1,))}


def test_text_and_lost_rows_are_refused(sample):
    with pytest.raises(Invalid, match="'word' is text"):
        Candidate.exported(Torch(), torch.nn.Linear(4, 1), sample.assign(word="a"))

    class Total(torch.nn.Module):
        def forward(self, features):
            return features.sum()

    with pytest.raises(Invalid, match=r"shape \(\) for 200 rows"):
        Candidate.exported(Torch(), Total(), sample)
