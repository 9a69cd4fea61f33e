"""scikit-learn's models of models and its transformers: calibrated, stacking, voting, thresholds, missing texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.unit.serving.conftest import outputs, proved

from themisto.errors import Invalid
from themisto.serving.candidate import Candidate
from themisto.serving.exporter import exporter_for

WORDS, NUMBERS = ["carrier"], ["hour", "dist", "temp"]


@pytest.fixture(scope="module")
def small(frame):
    return frame.head(400)


@pytest.fixture(scope="module")
def target(late):
    return late.head(400)


@pytest.fixture(scope="module")
def gaps(small):
    """Missing texts and numbers."""
    every = small.index
    return small.assign(
        carrier=small.carrier.astype(object).where(every % 5 > 0, np.nan), dist=small.dist.where(every % 7 > 0)
    )


def logistic():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500)


def columns(words="onehot", numbers="scale"):
    """A ColumnTransformer over text and numbers."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

    parts = {
        "onehot": OneHotEncoder(handle_unknown="ignore"),
        "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        "ordinal, missing as -2": OrdinalEncoder(encoded_missing_value=-2),
        "ordinal, missing as NaN": OrdinalEncoder(),
        "target": TargetEncoder(),
        "filled": make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder()),
        "most frequent": make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
        "scale": StandardScaler(),
        "impute": make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
        "as they are": "passthrough",
    }
    return ColumnTransformer([("w", parts[words], WORDS), ("n", parts[numbers], NUMBERS)])


def pipeline(*steps):
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*steps)


@pytest.mark.parametrize("words", ["onehot", "ordinal", "target"])
def test_encoders(small, target, words):
    proved(pipeline(columns(words), logistic()).fit(small, target), small)


@pytest.mark.parametrize(
    "words", ["onehot", "ordinal, missing as -2", "ordinal, missing as NaN", "target", "filled", "most frequent"]
)
def test_missing_texts_are_what_the_model_knows_them_as(gaps, target, words):
    import lightgbm as lgb

    model = pipeline(columns(words, "impute"), lgb.LGBMClassifier(n_estimators=5, verbose=-1)).fit(gaps, target)
    candidate = proved(model, gaps)
    carrier = candidate.export.signature.inputs[0]
    assert (carrier.name, carrier.missing) == ("carrier", "")


def test_a_missing_text_may_come_though_the_sample_has_none(gaps, small, target):
    model = pipeline(columns("onehot", "impute"), logistic()).fit(gaps, target)
    assert proved(model, small).export.signature.inputs[0].missing == ""


CLASSIFIERS = {
    "calibrated, inner pipelines": lambda: _calibrated(pipeline(columns(), logistic())),
    "calibrated LightGBM, isotonic": lambda: pipeline(columns(), _calibrated(_lightgbm(), method="isotonic")),
    "calibrated, three folds": lambda: pipeline(columns(), _calibrated(logistic())),
    "stacking, inner pipelines": lambda: _stacking(
        pipeline(columns(), logistic()), pipeline(columns("ordinal"), _tree())
    ),
    "stacking, LightGBM and XGBoost": lambda: pipeline(
        columns("ordinal", "as they are"), _stacking(_lightgbm(), _xgboost())
    ),
    "stacking, passed through": lambda: pipeline(columns(), _stacking(logistic(), _tree(), passthrough=True)),
    "voting, soft": lambda: _voting(pipeline(columns(), logistic()), pipeline(columns("ordinal"), _tree()), "soft"),
    "voting, weighted": lambda: pipeline(columns(), _voting(logistic(), _tree(), "soft", weights=[3, 1])),
    "voting, hard": lambda: pipeline(columns(), _voting(logistic(), _tree(), "hard")),
    "threshold": lambda: _threshold(pipeline(columns(), logistic())),
    "search": lambda: _search(pipeline(columns(), logistic())),
    "CatBoost": lambda: pipeline(columns("ordinal", "as they are"), _catboost()),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("labels", [[0, 1], ["no", "yes"]], ids=["integers", "texts"])
def test_classifiers_of_classifiers(small, target, name, labels):
    named = pd.Series(np.array(labels)[target], index=target.index)
    model = CLASSIFIERS[name]().fit(small, named)
    told = outputs(proved(model, small))
    assert told["label"] == ("INT64" if labels[0] == 0 else "BYTES", (1,))
    assert ("probabilities" in told) == (name != "voting, hard")


def test_several_classes(small):
    model = pipeline(columns(), _calibrated(logistic())).fit(small, pd.qcut(small.dist, 3, labels=False))
    assert outputs(proved(model, small))["probabilities"] == ("FP32", (3,))


def test_regressors_of_regressors(small, delay):
    from sklearn.ensemble import StackingRegressor, VotingRegressor
    from sklearn.linear_model import Ridge

    parts = [("a", pipeline(columns(), Ridge())), ("b", pipeline(columns("ordinal"), Ridge()))]
    for model in (StackingRegressor(parts, Ridge(), cv=2), VotingRegressor(parts, weights=[1, 2])):
        assert outputs(proved(model.fit(small, delay.head(400)), small)) == {"prediction": ("FP32", (1,))}


def test_the_model_itself_is_not_changed(gaps, target):
    model = pipeline(columns("filled", "impute"), logistic()).fit(gaps, target)
    before = model.predict_proba(gaps)
    proved(model, gaps)
    assert np.array_equal(model.predict_proba(gaps), before)


def test_what_cannot_be_put_together_names_the_other_way(small, target):
    numbers = small[NUMBERS]
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import StandardScaler

    scaled = [pipeline(ColumnTransformer([("n", StandardScaler(), NUMBERS)]), m) for m in (logistic(), _tree())]
    model = _stacking(*scaled, passthrough=True).fit(numbers, target)
    with pytest.raises(Invalid, match="passes columns on by name") as caught:
        Candidate.exported(exporter_for(model), model, numbers)
    assert "--native" in caught.value.remedy


def _calibrated(model, method="sigmoid"):
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(model, cv=3, method=method)


def _stacking(first, second, **options):
    from sklearn.ensemble import StackingClassifier

    return StackingClassifier([("a", first), ("b", second)], logistic(), cv=2, **options)


def _voting(first, second, how, **options):
    from sklearn.ensemble import VotingClassifier

    return VotingClassifier([("a", first), ("b", second)], voting=how, **options)


def _threshold(model):
    from sklearn.model_selection import FixedThresholdClassifier

    return FixedThresholdClassifier(model, threshold=0.3)


def _search(model):
    from sklearn.model_selection import GridSearchCV

    return GridSearchCV(model, {"logisticregression__C": [1, 2]}, cv=2)


def _tree():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=3, random_state=0)


def _lightgbm():
    import lightgbm as lgb

    return lgb.LGBMClassifier(n_estimators=5, verbose=-1)


def _xgboost():
    import xgboost as xgb

    return xgb.XGBClassifier(n_estimators=5)


def _catboost():
    import catboost as cb

    return cb.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False)
