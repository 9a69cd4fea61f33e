"""Chains: pre-processing, model and post-processing as one artifact, joined by the names of columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.unit.serving.conftest import outputs, proved

from themisto.errors import Invalid
from themisto.serving import Chain
from themisto.serving.candidate import Candidate
from themisto.serving.chain import Plan
from themisto.serving.exporter import exporter_for

LIMIT = 1500.0


def prepare(df):
    return pd.DataFrame({"dist": df.dist.clip(upper=LIMIT), "night": (df.hour > 20) | (df.hour < 6)})


def decide(df):
    late = np.array([row[1] for row in df.probabilities])
    return pd.DataFrame({"score": late, "band": np.where((late > 0.5) & (df.carrier == "AA"), "high", "low")})


@pytest.fixture(scope="module")
def model(frame, late):
    import lightgbm as lgb

    made = prepare(frame).assign(temp=frame.temp)
    return lgb.LGBMClassifier(n_estimators=10, verbose=-1).fit(made, late)


def expected(model, frame):
    given = prepare(frame).assign(temp=frame.temp)
    answers = pd.DataFrame({"probabilities": list(model.predict_proba(given)), "carrier": frame.carrier})
    return decide(answers)


def test_three_parts_answer_as_called_one_after_the_other(model, frame):
    candidate = proved(Chain(prepare, model, decide), frame)
    assert candidate.export.kind == "chain"
    assert outputs(candidate) == {"score": ("FP64", (1,)), "band": ("BYTES", (1,))}
    assert np.allclose(candidate.expected["score"][:, 0], expected(model, frame).score)
    plan, parts = Plan.read(candidate.export.data)
    assert [(p.name, p.kind) for p in plan.parts] == [("pre", "python"), ("model", "onnx"), ("post", "python")]
    assert plan.parts[1].reads == {"dist": "pre:dist", "night": "pre:night", "temp": "temp"}
    assert plan.parts[2].reads["probabilities"] == "model:probabilities"
    assert set(parts) == {"pre", "model", "post"}


def test_without_pre_the_model_takes_its_columns_from_the_request(booster, frame):
    def verdict(df):
        return df.label * 2

    candidate = proved(Chain(None, booster, twice), frame)
    assert [c.name for c in candidate.export.signature.inputs] == ["hour", "dist", "temp"]
    assert outputs(candidate) == {"prediction": ("INT64", (1,))}


def twice(df):
    return df.label * 2


def test_without_post_the_model_s_answers_are_answered(model, frame):
    assert outputs(proved(Chain(prepare, model), frame)) == {"label": ("INT64", (1,)), "probabilities": ("FP32", (2,))}


def test_the_model_of_a_chain_may_be_kept_in_its_own_library(model, frame):
    candidate = proved(Chain(prepare, model, decide), frame, native=True)
    plan, _ = Plan.read(candidate.export.data)
    assert [p.kind for p in plan.parts] == ["python", "python", "python"]


def clash(df):
    return pd.DataFrame({"carrier": df.label.astype(str)})


def wide(df):
    return {"dist": np.zeros((len(df), 2))}


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        (lambda m: Chain(prepare, m, clash), "'carrier' is both a column that comes in and an answer"),
        (lambda m: Chain(wide, m), "'dist' with several values a row"),
        (lambda m: Chain(prepare, Chain(None, m)), "model of a chain is a chain"),
        (lambda m: Chain("clean", m), "pre is a str, not a function"),
        (lambda m: Chain(None, m, decide), "columns do not fit"),
    ],
)
def test_what_cannot_be_a_chain_is_refused(model, frame, chain, says):
    built = chain(model)
    with pytest.raises(Invalid, match=says):
        Candidate.exported(exporter_for(built), built, frame)
