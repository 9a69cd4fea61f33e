"""From a model to answers through the real control plane, Triton and Envoy, for each kind of model."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from themisto.errors import Conflict, Invalid, NotFound

NUMBERS = ["hour", "dist", "temp"]


def ask(endpoint, frame, **options):
    """The answer, once Envoy has the endpoint's route."""
    until = time.monotonic() + 15
    while True:
        try:
            return endpoint.predict(frame, **options)
        except NotFound:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="module")
def booster(frame, late):
    import lightgbm as lgb

    return lgb.LGBMClassifier(n_estimators=20, verbose=-1).fit(frame[NUMBERS], late)


@pytest.fixture(scope="module")
def credit(serving, booster, frame):
    outcome, stages = serving.deploy("credit", booster, frame, batch="max=32,delay=100us")
    print({stage.name: round(stage.seconds, 2) for stage in stages})
    assert outcome.rollout.state == "done"
    return serving.endpoint("credit")


def test_lightgbm_answers_as_the_model_with_missing_values_and_batches(credit, booster, frame):
    answer = ask(credit, frame)
    assert answer.attrs["release"] == "credit@1"
    assert (answer.label == booster.predict(frame[NUMBERS])).all()
    assert np.allclose(answer.probabilities.tolist(), booster.predict_proba(frame[NUMBERS]), atol=1e-5)


def test_a_second_release_goes_to_canary_is_replayed_and_promoted(serving, credit, frame, late):
    import lightgbm as lgb

    other = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(frame[NUMBERS], late)
    outcome, _ = serving.deploy("credit", other, frame, weight_pct=40)
    assert (outcome.rollout.state, outcome.rollout.weight_pct) == ("running", 40)
    until = time.monotonic() + 15
    asked = pd.concat([frame[NUMBERS]] * 2).assign(customer=[f"c{i % 50}" for i in range(1000)])
    while time.monotonic() < until:
        answer = credit.predict(asked, key="customer")
        if "releases" in answer.attrs:
            break
    by_customer = pd.DataFrame({"c": asked.customer.to_numpy(), "r": answer.attrs["releases"]}).groupby("c").r
    assert (by_customer.nunique() == 1).all()
    replayed = serving.test("credit")
    assert [r.release for r in replayed] == ["credit@1", "credit@2"]
    assert all(r.agrees for r in replayed), replayed
    assert serving.diff("credit")["stable"] == 1
    with pytest.raises(Conflict, match="credit@2 is on its way"):
        serving.deploy("credit", lgb.LGBMClassifier(n_estimators=3, verbose=-1).fit(frame[NUMBERS], late), frame)
    assert serving.promote("credit").stable == 2


def test_a_pipeline_with_text_integers_and_floats(serving, frame, late):
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    prepare = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
        ]
    )
    named = late.map({0: "on time", 1: "late"})
    model = Pipeline([("prepare", prepare), ("model", LogisticRegression(max_iter=500))]).fit(frame, named)
    serving.deploy("words", model, frame)
    answer = ask(serving.endpoint("words"), frame.head(70))
    assert list(answer.label) == list(model.predict(frame.head(70)))


def test_string_categories_boosters_and_booleans(serving, frame, late):
    import lightgbm as lgb
    import xgboost as xgb

    categories = frame.assign(carrier=frame.carrier.astype("category"))
    model = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(categories, late == 1)
    serving.deploy("categories", model, categories)
    answer = ask(serving.endpoint("categories"), frame.head(10))
    assert answer.label.dtype == bool
    assert list(answer.label) == list(model.predict(categories.head(10)))
    native = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(frame[NUMBERS], late), 5)
    serving.deploy("native", native, frame)
    expected = native.predict(xgb.DMatrix(frame[NUMBERS].head(10)))
    assert np.allclose(ask(serving.endpoint("native"), frame.head(10)).prediction, expected, atol=1e-5)


def test_the_same_command_again_is_the_same_release(serving, frame, late, tmp_path, monkeypatch):
    import lightgbm as lgb

    monkeypatch.chdir(tmp_path)  # outside a repository: a commit meanwhile would be another content
    model = lgb.LGBMRegressor(n_estimators=5, verbose=-1).fit(frame[NUMBERS], late)
    first, _ = serving.deploy("twice", model, frame)
    started = time.monotonic()
    second, stages = serving.deploy("twice", model, frame)
    print({stage.name: round(stage.seconds, 2) for stage in stages}, round(time.monotonic() - started, 2))
    assert second.release == first.release
    assert len(serving.releases("twice")) == 1


def test_what_triton_refuses_is_ours(serving, credit, frame):
    ask(credit, frame.head(1))
    with pytest.raises(Invalid, match="missing"):
        credit.predict(frame[["hour", "dist"]])
    with pytest.raises(NotFound, match="no endpoint 'nothing'"):
        serving.endpoint("nothing").predict(frame)


def test_retired_answers_no_more(serving, booster, frame):
    serving.deploy("gone", booster, frame)
    ask(serving.endpoint("gone"), frame.head(1))
    serving.retire("gone", force=True)  # it was called just now
    serving._clients.clear()
    with pytest.raises(NotFound, match="was retired"):
        serving.endpoint("gone").predict(frame.head(1))


@pytest.mark.timeout(60)
def test_a_function_answers_in_its_groups_own_triton(serving, frame):
    serving.deploy("risk", risk, frame)
    answer = ask(serving.endpoint("risk"), frame.head(80))
    expected = risk(frame.head(80))
    assert np.allclose(answer.score, expected.score)
    assert list(answer.band) == list(expected.band)
    assert answer.late.dtype == bool
    (replayed,) = serving.test("risk")
    assert replayed.agrees, replayed


@pytest.mark.timeout(120)
def test_a_chain_answers_as_an_ensemble_in_its_groups_own_triton(serving, frame, late):
    import lightgbm as lgb

    from themisto.serving import Chain

    model = lgb.LGBMClassifier(n_estimators=10, verbose=-1).fit(prepare(frame).assign(temp=frame.temp), late)
    serving.deploy("chained", Chain(prepare, model, decide), frame)
    answer = ask(serving.endpoint("chained"), frame.head(80))
    given = prepare(frame.head(80)).assign(temp=frame.temp.head(80))
    score = model.predict_proba(given)[:, 1]
    assert np.allclose(answer.score, score, atol=1e-5)
    assert list(answer.band) == list(np.where((score > 0.5) & (frame.carrier.head(80) == "AA"), "höher", "low"))
    (replayed,) = serving.test("chained")
    assert replayed.agrees, replayed
    serving.retire("chained")


@pytest.mark.timeout(180)
def test_a_model_that_onnx_answers_otherwise_is_served_in_its_own_library(serving, frame, late):
    import xgboost as xgb
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from themisto.errors import ParityError

    columns = [("w", OneHotEncoder(), ["carrier"]), ("n", StandardScaler(), NUMBERS)]
    model = make_pipeline(ColumnTransformer(columns), xgb.XGBClassifier(n_estimators=100)).fit(frame, late)
    with pytest.raises(ParityError) as caught:
        serving.deploy("scaled", model, frame)
    assert "--native" in caught.value.remedy
    outcome, stages = serving.deploy("scaled", model, frame, native=True)
    assert outcome.rollout.state == "done", outcome.rollout
    print({stage.name: (round(stage.seconds, 2), stage.note) for stage in stages})
    answer = ask(serving.endpoint("scaled"), frame.head(80))
    assert list(answer.label) == list(model.predict(frame.head(80)))
    assert np.array_equal(np.array(answer.probabilities.tolist()), model.predict_proba(frame.head(80)))


@pytest.mark.timeout(60)
def test_times_and_missing_values_keep_their_types_there_and_back(serving):
    sample = pd.DataFrame(
        {
            "since": pd.to_datetime(["2026-07-01 12:00", "2026-01-01 00:30", None]).tz_localize("Asia/Seoul"),
            "name": ["a", None, "b"],
            "count": pd.array([1, None, 3], "Int64"),
            "active": [True, False, True],
        }
    )
    serving.deploy("typed", typed, sample)
    answer = ask(serving.endpoint("typed"), sample)
    assert list(answer.hour.fillna(-1)) == [12, 0, -1]
    assert str(answer.due.dt.tz) == "Asia/Seoul"
    assert answer.due[0] == pd.Timestamp("2026-07-31 12:00", tz="Asia/Seoul")
    assert pd.isna(answer.due[2])
    assert answer["count"].tolist() == [1, pd.NA, 3]
    assert answer.active.dtype == bool
    assert [None if pd.isna(v) else v for v in answer.name_again] == ["a", None, "b"]
    (replayed,) = serving.test("typed")
    assert replayed.agrees, replayed


def typed(df: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "due": df.since + pd.Timedelta(days=30),
            "hour": df.since.dt.hour,
            "count": df["count"],
            "active": df.active,
            "name_again": df["name"],
        }
    )


def prepare(df: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"dist": df.dist.clip(upper=1500.0), "night": (df.hour > 20) | (df.hour < 6)})


def decide(df: pd.DataFrame) -> pd.DataFrame:
    late = np.array([row[1] for row in df.probabilities])
    return pd.DataFrame({"score": late, "band": np.where((late > 0.5) & (df.carrier == "AA"), "höher", "low")})


LIMIT = 1000.0


def excess(values):
    return np.maximum(values - LIMIT, 0)


def risk(df: pd.DataFrame) -> pd.DataFrame:
    band = np.where(df.carrier == "UÄ", "höher", "low")
    return pd.DataFrame({"score": excess(df.dist) + df.temp.fillna(0), "band": band, "late": df.hour > 20})
