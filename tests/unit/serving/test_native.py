"""The native route: a model in its own library, its packages pinned, the same gate."""

from __future__ import annotations

import io
import json
import threading
import zipfile

import numpy as np
import pytest
from tests.unit.serving.conftest import outputs, proved

from themisto.errors import Invalid, ParityError
from themisto.serving.candidate import Candidate
from themisto.serving.exporter import exporter_for
from themisto.serving.parity import Tolerance


def files(candidate):
    with zipfile.ZipFile(io.BytesIO(candidate.export.data)) as archive:
        return {name: archive.read(name).decode(errors="replace") for name in archive.namelist()}


@pytest.fixture(scope="module")
def scaled(frame, late):
    """What ONNX's 32-bit floats answer otherwise on some rows: a tree behind a scaler."""
    import xgboost as xgb
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = [("w", OneHotEncoder(), ["carrier"]), ("n", StandardScaler(), ["hour", "dist", "temp"])]
    return make_pipeline(ColumnTransformer(columns), xgb.XGBClassifier(n_estimators=50, max_depth=6)).fit(frame, late)


def test_a_tree_behind_a_scaler_is_refused_as_onnx_and_answers_natively(scaled, frame):
    with pytest.raises(ParityError) as caught:
        Candidate.exported(exporter_for(scaled), scaled, frame).prove(Tolerance())
    assert "--native" in caught.value.remedy
    assert outputs(proved(scaled, frame, native=True)) == {
        "label": ("INT64", (1,)),
        "probabilities": ("FP32", (2,)),
    }


def test_what_the_model_needs_is_pinned_with_all_it_needs_in_turn(scaled, frame):
    told = files(proved(scaled, frame, native=True))
    lines = told["requirements.txt"].splitlines()
    assert lines[0].startswith("# python 3.")
    names = {line.partition("==")[0] for line in lines[1:]}
    assert {"scikit-learn", "xgboost-cpu", "numpy", "scipy", "pandas", "joblib", "skops"} <= names
    assert "mlflow" not in names
    assert "model.skops" in told


def test_a_lightgbm_model_with_categories_gets_its_categories_back(frame, late):
    import lightgbm as lgb

    sample = frame.assign(carrier=frame.carrier.astype("category"))
    model = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(sample, late)
    told = files(proved(model, sample, native=True))
    assert json.loads(told["model.json"])["dtypes"]["carrier"]["categories"] == ["AA", "DL", "UA"]


def test_xgboost_and_catboost_with_categories_which_nothing_exports(frame, late):
    import catboost as cb
    import xgboost as xgb

    sample = frame.assign(carrier=frame.carrier.astype("category"))
    proved(xgb.XGBClassifier(n_estimators=3, enable_categorical=True).fit(sample, late), sample, native=True)
    model = cb.CatBoostClassifier(iterations=3, verbose=0, cat_features=["carrier"]).fit(frame, late)
    proved(model, frame, native=True)


def test_boosters_and_models_fitted_on_arrays(numbers, late):
    import xgboost as xgb
    from sklearn.linear_model import LogisticRegression

    booster = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(numbers, late), 5)
    assert outputs(proved(booster, numbers, native=True)) == {"prediction": ("FP32", (1,))}
    proved(LogisticRegression(max_iter=500).fit(numbers.to_numpy(), late), numbers, native=True)


def test_missing_texts_reach_the_model_as_the_sample_had_them(frame, late):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    words = frame[["carrier"]].astype(object)
    for mark in (None, np.nan):
        sample = words.assign(carrier=words.carrier.where(words.index % 5 > 0, mark))
        proved(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(sample, late), sample, native=True)


def test_a_class_of_the_notebook_travels_and_a_lock_does_not(numbers):
    class Mean:
        def predict(self, df):
            return df.dist * 2 + df.hour

    assert outputs(proved(Mean(), numbers, native=True)) == {"prediction": ("FP64", (1,))}
    held = Mean()
    held.lock = threading.Lock()
    with pytest.raises(Invalid, match="cannot be stored"):
        Candidate.exported(exporter_for(held, native=True), held, numbers)


def test_what_nothing_exports_is_offered_the_native_route():
    class Mean:
        def predict(self, df):
            return df.dist

    with pytest.raises(Invalid, match="Nothing can export") as caught:
        exporter_for(Mean())
    assert "--native" in caught.value.remedy
    with pytest.raises(Invalid, match="Nothing can export") as caught:
        exporter_for(3, native=True)
    assert "--native" not in caught.value.remedy
