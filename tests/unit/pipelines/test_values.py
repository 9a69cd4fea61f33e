"""Values come back as they were, in an open format, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from themisto.errors import Failed, Invalid
from themisto.pipelines import values


@pytest.mark.parametrize(
    ("value", "format"),
    [
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 9]), "parquet"),
        (pd.Series([1.5, None], name="y"), "parquet"),
        ({"a": [1, None, 2.5], "b": {"c": True}}, "json"),
        (np.float32(3), "json"),
        (np.arange(6.0).reshape(2, 3), "npy"),
    ],
)
def test_data_comes_back_as_it_was(value: Any, format: str, tmp_path: Path) -> None:
    assert values.save(value, tmp_path / "v").format == format
    back = values.load(tmp_path / "v")
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(back, value)
    elif isinstance(value, pd.Series):
        pd.testing.assert_series_equal(back, value)
    else:
        assert np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {1, 2}, np.array([object()]), pd.Timestamp(0), print])
def test_what_would_change_on_the_way_is_refused(value: Any, tmp_path: Path) -> None:
    assert values.format_of(value) is None
    with pytest.raises(Invalid, match="-o it:pickle"):
        values.save(value, tmp_path / "v", name="it")


def test_a_pickle_travels_when_asked_for(tmp_path: Path) -> None:
    assert values.save((1, {2}), tmp_path / "v", format="pickle").format == "pickle"
    assert values.load(tmp_path / "v") == (1, {2})


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    values.save({"a": 1}, tmp_path / "v")
    (tmp_path / "v" / "value.json").write_text('{"a": 2}')
    with pytest.raises(Failed, match="was changed"):
        values.load(tmp_path / "v")


def _data() -> tuple[pd.DataFrame, pd.Series]:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    return X, (X["a"] > 0).astype(int)


@pytest.mark.parametrize("kind", ["sklearn", "lightgbm", "lightgbm-booster", "xgboost", "pipeline"])
def test_models_answer_as_before(kind: str, tmp_path: Path) -> None:
    import lightgbm
    import xgboost
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = _data()
    made = {
        "sklearn": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=3, verbose=-1),
        "lightgbm-booster": lambda: lightgbm.LGBMClassifier(n_estimators=3, verbose=-1),
        "xgboost": lambda: xgboost.XGBClassifier(n_estimators=3),
        "pipeline": lambda: make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)),
    }[kind]()
    model = made.fit(X, y)
    model = model.booster_ if kind == "lightgbm-booster" else model
    expected = {"xgboost": "xgboost", "lightgbm-booster": "lightgbm"}.get(kind, "skops")
    assert values.save(model, tmp_path / "m").format == expected
    back = values.load(tmp_path / "m")
    ask = "predict" if kind == "lightgbm-booster" else "predict_proba"
    np.testing.assert_allclose(getattr(back, ask)(X), getattr(model, ask)(X))


def test_a_model_with_a_function_of_the_notebook_is_refused(tmp_path: Path) -> None:
    from sklearn.preprocessing import FunctionTransformer

    with pytest.raises(Invalid, match="only a pickle can carry"):
        values.save(FunctionTransformer(lambda v: v), tmp_path / "m")
