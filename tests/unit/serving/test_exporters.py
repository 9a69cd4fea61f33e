"""Each exporter gives an artifact that answers as its model does, with an input a column, the same bytes each time."""

from __future__ import annotations

import math
import sys
import zipfile
from datetime import date
from io import BytesIO
from typing import TypedDict

import numpy as np
import pandas as pd
import pytest
from tests.unit.serving.conftest import outputs, proved

from themisto.errors import Failed, Invalid, ParityError
from themisto.serving.candidate import Candidate
from themisto.serving.exporter import exporter_for
from themisto.serving.frame import to_frame
from themisto.serving.models import Column
from themisto.serving.parity import Tolerance
from themisto.serving.runner import run

CLASSES = {"label": ("INT64", (1,)), "probabilities": ("FP32", (2,))}


class TestLightGbm:
    def test_classifier(self, booster, numbers):
        candidate = proved(booster, numbers)
        assert outputs(candidate) == CLASSES
        assert candidate.export.signature.inputs == (
            Column(name="hour", dtype="INT64"),
            Column(name="dist", dtype="FP64"),
            Column(name="temp", dtype="FP32"),
        )

    @pytest.mark.parametrize(
        ("labels", "dtype"), [({0: "no", 1: "yes"}, "BYTES"), ({0: False, 1: True}, "BOOL"), ({0: 3, 1: 7}, "INT64")]
    )
    def test_labels_keep_their_type(self, numbers, late, labels, dtype):
        import lightgbm as lgb

        model = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(numbers, late.map(labels))
        assert outputs(proved(model, numbers))["label"] == (dtype, (1,))

    def test_several_classes(self, numbers, delay):
        import lightgbm as lgb

        model = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(numbers, pd.qcut(delay, 4, labels=False))
        assert outputs(proved(model, numbers))["probabilities"] == ("FP32", (4,))

    def test_regressor(self, numbers, delay):
        import lightgbm as lgb

        model = lgb.LGBMRegressor(n_estimators=5, verbose=-1).fit(numbers, delay)
        assert outputs(proved(model, numbers)) == {"prediction": ("FP32", (1,))}

    def test_string_categories_enter_as_strings(self, frame, late):
        import lightgbm as lgb

        sample = frame.assign(carrier=frame.carrier.astype("category"))
        model = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(sample, late)
        candidate = proved(model, sample)
        assert candidate.export.signature.inputs[0] == Column(name="carrier", dtype="BYTES")

    def test_missing_values(self, numbers, late):
        import lightgbm as lgb

        sample = numbers.assign(dist=numbers.dist.where(numbers.index % 7 > 0))
        proved(lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(sample, late), sample)

    @pytest.mark.parametrize(
        ("parameters", "shape"),
        [({"objective": "binary"}, (1,)), ({"objective": "multiclass", "num_class": 3}, (3,)), ({}, (1,))],
    )
    def test_booster_answers_what_its_predict_answers(self, numbers, late, parameters, shape):
        import lightgbm as lgb

        target = late + (numbers.hour > 20) if "num_class" in parameters else late
        model = lgb.train({"verbose": -1, **parameters}, lgb.Dataset(numbers, target), 5)
        assert outputs(proved(model, numbers)) == {"prediction": ("FP32", shape)}

    def test_early_stopping_uses_the_rounds_that_predict_uses(self, numbers, late):
        import lightgbm as lgb

        model = lgb.LGBMClassifier(n_estimators=100, verbose=-1)
        stop = lgb.early_stopping(2, verbose=False)
        model.fit(numbers[:900], late[:900], eval_set=[(numbers[900:], late[900:])], callbacks=[stop])
        assert model.best_iteration_ < 100
        proved(model, numbers)

    def test_blanks_in_names_are_those_that_lightgbm_rewrote(self, numbers, late):
        import lightgbm as lgb

        sample = numbers.rename(columns={"dist": "mean dist"})
        proved(lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(sample, late), sample)


class TestXgBoost:
    def test_classifier_keeps_its_feature_names(self, numbers, late):
        import xgboost as xgb

        model = xgb.XGBClassifier(n_estimators=5).fit(numbers, late)
        assert outputs(proved(model, numbers)) == CLASSES
        assert model.get_booster().feature_names == ["hour", "dist", "temp"]

    def test_regressor(self, numbers, delay):
        import xgboost as xgb

        model = xgb.XGBRegressor(n_estimators=5).fit(numbers, delay)
        assert outputs(proved(model, numbers)) == {"prediction": ("FP32", (1,))}

    def test_early_stopping_uses_the_rounds_that_predict_uses(self, numbers, late):
        import xgboost as xgb

        model = xgb.XGBClassifier(n_estimators=100, early_stopping_rounds=2)
        model.fit(numbers[:900], late[:900], eval_set=[(numbers[900:], late[900:])], verbose=False)
        assert model.best_iteration < 99
        proved(model, numbers)

    @pytest.mark.parametrize(
        ("objective", "dtype", "shape"),
        [
            ("binary:logistic", "FP32", (1,)),
            ("multi:softprob", "FP32", (3,)),
            ("multi:softmax", "FP32", (1,)),
            ("reg:squarederror", "FP32", (1,)),
        ],
    )
    def test_booster_answers_what_its_predict_answers(self, numbers, late, objective, dtype, shape):
        import xgboost as xgb

        several = objective.startswith("multi")
        target = late + (numbers.hour > 20) if several else late
        parameters = {"objective": objective} | ({"num_class": 3} if several else {})
        model = xgb.train(parameters, xgb.DMatrix(numbers, target), 5)
        assert outputs(proved(model, numbers)) == {"prediction": (dtype, shape)}

    def test_category_columns_are_refused_with_what_to_do(self, frame, late):
        import xgboost as xgb

        sample = frame.assign(carrier=frame.carrier.astype("category"))
        model = xgb.XGBClassifier(n_estimators=3, enable_categorical=True).fit(sample, late)
        with pytest.raises(Invalid, match=r"'carrier'.*OrdinalEncoder"):
            Candidate.exported(exporter_for(model), model, sample)


class TestSkLearn:
    @pytest.fixture
    def prepare(self):
        from sklearn.compose import ColumnTransformer
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        words = ("words", OneHotEncoder(handle_unknown="ignore"), ["carrier"])
        return ColumnTransformer([words, ("numbers", StandardScaler(), ["hour", "dist", "temp"])])

    def test_column_transformer_with_text_integers_and_floats(self, prepare, frame, late):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline

        model = Pipeline([("prepare", prepare), ("model", LogisticRegression(max_iter=500))]).fit(frame, late)
        candidate = proved(model, frame)
        assert outputs(candidate) == CLASSES
        assert [c.dtype for c in candidate.export.signature.inputs] == ["BYTES", "INT64", "FP64", "FP32"]

    def test_lightgbm_as_the_last_step(self, prepare, frame, late):
        import lightgbm as lgb
        from sklearn.pipeline import Pipeline

        last = lgb.LGBMClassifier(n_estimators=5, verbose=-1)
        proved(Pipeline([("prepare", prepare), ("model", last)]).fit(frame, late), frame)

    def test_xgboost_behind_an_encoder(self, frame, delay):
        import xgboost as xgb
        from sklearn.compose import ColumnTransformer
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OrdinalEncoder

        prepare = ColumnTransformer([("words", OrdinalEncoder(), ["carrier"])], remainder="passthrough")
        last = xgb.XGBRegressor(n_estimators=5)
        proved(Pipeline([("prepare", prepare), ("model", last)]).fit(frame, delay), frame)

    def test_columns_that_nothing_reads_are_not_asked_for(self, frame, late):
        from sklearn.compose import ColumnTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OneHotEncoder

        prepare = ColumnTransformer([("words", OneHotEncoder(), ["carrier"])])
        model = Pipeline([("prepare", prepare), ("model", LogisticRegression())]).fit(frame, late)
        assert [c.name for c in proved(model, frame).export.signature.inputs] == ["carrier"]

    def test_bare_estimators(self, numbers, late, delay):
        from sklearn.cluster import KMeans
        from sklearn.linear_model import LinearRegression, LogisticRegression

        assert outputs(proved(LogisticRegression(max_iter=500).fit(numbers, late), numbers)) == CLASSES
        several = LinearRegression().fit(numbers, np.c_[delay, delay])
        assert outputs(proved(several, numbers)) == {"prediction": ("FP32", (2,))}
        clusters = KMeans(3, random_state=0).fit(numbers)
        assert outputs(proved(clusters, numbers)) == {"prediction": ("INT64", (1,))}

    def test_fitted_on_arrays(self, numbers, late):
        from sklearn.linear_model import LogisticRegression

        proved(LogisticRegression(max_iter=500).fit(numbers.to_numpy(), late), numbers)

    def test_without_probabilities(self, numbers, late):
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        model = make_pipeline(StandardScaler(), LinearSVC()).fit(numbers, late)
        assert outputs(proved(model, numbers)) == {"label": ("INT64", (1,))}

    def test_nearest_neighbours_give_the_same_bytes_each_time(self, numbers, late):
        from sklearn.neighbors import KNeighborsClassifier

        proved(KNeighborsClassifier().fit(numbers[:200], late[:200]), numbers[:200])

    def test_not_fitted_is_told(self, numbers):
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression()
        with pytest.raises(Invalid, match="not fitted"):
            Candidate.exported(exporter_for(model), model, numbers)

    def test_no_predict_is_told(self, numbers):
        from sklearn.preprocessing import StandardScaler

        model = StandardScaler().fit(numbers)
        with pytest.raises(Invalid, match="no predict"):
            Candidate.exported(exporter_for(model), model, numbers)

    def test_what_the_converter_does_not_know_is_told_with_its_reason(self, numbers, delay):
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.linear_model import LinearRegression

        model = TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1).fit(numbers, delay)
        with pytest.raises(Invalid, match="cannot be exported") as caught:
            Candidate.exported(exporter_for(model), model, numbers)
        assert "--native" in caught.value.remedy


class TestCatBoost:
    def test_classifier_with_missing_values(self, numbers, late):
        import catboost as cb

        sample = numbers.assign(dist=numbers.dist.where(numbers.index % 7 > 0))
        assert outputs(proved(cb.CatBoostClassifier(iterations=5, verbose=0).fit(sample, late), sample)) == CLASSES

    def test_text_labels_several_classes_and_numbers(self, numbers, late, delay):
        import catboost as cb

        model = cb.CatBoostClassifier(iterations=5, verbose=0).fit(numbers, late.map({0: "no", 1: "yes"}))
        assert outputs(proved(model, numbers))["label"] == ("BYTES", (1,))
        model = cb.CatBoostClassifier(iterations=5, verbose=0).fit(numbers, pd.qcut(delay, 3, labels=False))
        assert outputs(proved(model, numbers))["probabilities"] == ("FP32", (3,))
        model = cb.CatBoostRegressor(iterations=5, verbose=0).fit(numbers, delay)
        assert outputs(proved(model, numbers)) == {"prediction": ("FP32", (1,))}

    def test_category_columns_are_refused_with_the_way_that_takes_them(self, frame, late):
        import catboost as cb

        model = cb.CatBoostClassifier(iterations=3, verbose=0, cat_features=["carrier"]).fit(frame, late)
        with pytest.raises(Invalid, match="category columns") as caught:
            Candidate.exported(exporter_for(model), model, frame)
        assert "--native" in caught.value.remedy


class TestOnnx:
    @pytest.fixture
    def graph(self, numbers, late):
        from skl2onnx import to_onnx
        from sklearn.linear_model import LogisticRegression

        values = numbers.to_numpy(dtype=np.float32)
        model = LogisticRegression(max_iter=500).fit(values, late)
        return to_onnx(model, values[:1], options={"zipmap": False})

    def test_a_matrix_becomes_an_input_a_column(self, graph, numbers):
        candidate = proved(graph, numbers)
        assert [c.name for c in candidate.export.signature.inputs] == ["hour", "dist", "temp"]
        assert outputs(candidate) == CLASSES

    def test_bytes_and_path(self, graph, numbers, tmp_path):
        data = graph.SerializeToString()
        (tmp_path / "model.onnx").write_bytes(data)
        for given in (data, tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
            proved(given, numbers)

    def test_a_graph_in_our_convention_is_served_byte_for_byte(self, booster, numbers):
        data = Candidate.exported(exporter_for(booster), booster, numbers).export.data
        assert proved(data, numbers).export.data == data

    def test_another_number_of_columns_is_told(self, graph, frame):
        with pytest.raises(Invalid, match="of 3 columns; the sample has 4 columns: carrier"):
            exporter_for(graph).export(graph, frame)

    def test_a_file_that_is_none_is_told(self, numbers, tmp_path):
        (tmp_path / "model.onnx").write_bytes(b"\x08nothing of the kind")
        for given in (tmp_path / "model.onnx", tmp_path / "missing.onnx"):
            with pytest.raises(Invalid, match=r"no ONNX model|no file"):
                Candidate.exported(exporter_for(given), given, numbers)


FACTOR = 2.0
UNKNOWN = object()


def doubled(values):
    return values * FACTOR


def risk(df: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "score": doubled(df.dist) + math.pi,
            "band": np.where(df.carrier == "AA", "low", "high"),
            "late": df.hour > 20,
        }
    )


def needs_kernel(df):
    return df.hour * hash(UNKNOWN)


def needs_package(df):
    return sys.modules and pytest and df.hour


def ranks(df):
    return df.hour.rank()


def short(df):
    return df.hour[:-1]


def broken(df):
    return df.nothing


class TestFunction:
    def test_runs_in_a_clean_process_with_what_it_leans_on(self, frame):
        candidate = proved(risk, frame)
        assert candidate.export.kind == "python"
        assert outputs(candidate) == {"score": ("FP64", (1,)), "band": ("BYTES", (1,)), "late": ("BOOL", (1,))}
        source = zipfile.ZipFile(BytesIO(candidate.export.data)).read("function.py").decode()
        assert "import math" in source
        assert "FACTOR = 2.0" in source
        assert "predict = risk" in source
        assert "UNKNOWN" not in source

    @pytest.mark.parametrize(
        ("function", "says"),
        [
            (needs_kernel, "'needs_kernel' leans on 'UNKNOWN', a object that only this kernel has"),
            (needs_package, "which the model server does not have"),
            (ranks, "answers the first rows otherwise when they come alone"),
            (short, "1999 values for 2000 rows"),
            (broken, "fails on the sample: AttributeError"),
            (lambda df: df.hour, "made with def"),
        ],
    )
    def test_what_cannot_travel_is_refused_by_name(self, frame, function, says):
        with pytest.raises(Invalid, match=says):
            Candidate.exported(exporter_for(function), function, frame).prove(Tolerance())

    def test_what_a_function_takes_from_around_it_is_refused(self, frame):
        factor = 3

        def inner(df):
            return df.hour * factor

        with pytest.raises(Invalid, match="takes factor from the function around it"):
            Candidate.exported(exporter_for(inner), inner, frame)


def test_an_exporter_of_another_package_is_found_by_its_entry_point(numbers, tmp_path, monkeypatch):
    package = tmp_path / "their_exporters.py"
    package.write_text(
        "from themisto.serving.exporters.lightgbm import LightGbm\n"
        "class Theirs:\n"
        "    packages = ('theirs',)\n"
        "    def accepts(self, model): return type(model).__name__ == 'Wrapped'\n"
        "    def columns(self, model): return LightGbm().columns(model.inner)\n"
        "    def answers(self, model, frame): return LightGbm().answers(model.inner, frame)\n"
        "    def export(self, model, frame): return LightGbm().export(model.inner, frame)\n"
    )
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[themisto.exporters]\ntheirs = their_exporters:Theirs\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Wrapped:
        def __init__(self, inner):
            self.inner = inner

    import lightgbm as lgb

    model = Wrapped(lgb.LGBMRegressor(n_estimators=3, verbose=-1).fit(numbers, numbers.hour))
    assert type(exporter_for(model)).__name__ == "Theirs"
    proved(model, numbers)


def test_the_gate_does_not_trust_an_exporter(booster, numbers):
    class Wrong:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def answers(self, model, frame):
            return {name: np.roll(a, 1, axis=0) for name, a in self.inner.answers(model, frame).items()}

    candidate = Candidate.exported(Wrong(exporter_for(booster)), booster, numbers)
    with pytest.raises(ParityError, match="otherwise than the model"):
        candidate.prove(Tolerance())


class Half:
    """An exporter with one thing wrong."""

    def __init__(self, inner, **wrong):
        self.inner, self.wrong = inner, wrong

    def __getattr__(self, name):
        return self.wrong.get(name) or getattr(self.inner, name)


def raising(model, frame):
    raise KeyError("half")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"export": raising}, "ends half-way: KeyError: 'half'"),
        ({"answers": lambda model, frame: {"a": np.zeros(len(frame))}}, r"answers 'a' with shape \(2000,\)"),
        ({"answers": lambda model, frame: {"a": np.zeros((3, 1))}}, r"shape \(3, 1\) for 2000 rows"),
        ({"answers": lambda model, frame: {"a": np.full((len(frame), 1), object())}}, "with object values"),
        ({"answers": lambda model, frame: np.zeros((len(frame), 1))}, "gives a ndarray of answers"),
    ],
)
def test_an_exporter_that_fails_is_named_and_nothing_is_made(booster, numbers, wrong, says):
    with pytest.raises(Failed, match=says):
        Candidate.exported(Half(exporter_for(booster), **wrong), booster, numbers)


def test_a_target_left_among_the_columns_is_refused_by_name(numbers, late):
    import lightgbm as lgb

    sample = numbers.assign(defaulted=late)
    model = lgb.LGBMClassifier(n_estimators=5, verbose=-1).fit(sample, late)
    with pytest.raises(Invalid, match="'defaulted' is what the model answers") as caught:
        Candidate.exported(exporter_for(model), model, sample)
    assert "Fit it without 'defaulted'" in caught.value.remedy


def test_a_column_that_sounds_like_the_target_is_told(frame):
    assert "'label'" in Candidate.exported(exporter_for(risk), risk, frame.assign(label=1)).warning
    assert Candidate.exported(exporter_for(risk), risk, frame).warning == ""


def test_what_a_model_fails_on_is_named_by_column(numbers, late):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500).fit(numbers, late)
    for value, says in ((np.inf, "'dist' holds infinities"), (np.nan, "'dist' has missing values")):
        sample = numbers.assign(dist=numbers.dist.where(numbers.index > 0, value))
        with pytest.raises(Invalid, match=says):
            Candidate.exported(exporter_for(model), model, sample)


def test_rows_with_infinities_are_compared_and_are_no_golden_requests(booster, numbers):
    sample = numbers.assign(dist=numbers.dist.where(numbers.index % 2 > 0, np.inf))
    parity, golden = Candidate.exported(exporter_for(booster), booster, sample).prove(Tolerance())
    assert parity.rows == len(sample)
    assert all(math.isfinite(v) for v in golden.inputs["dist"])
    with pytest.raises(Invalid, match="holds an infinity"):
        Candidate.exported(exporter_for(booster), booster, sample[::2]).prove(Tolerance())


def moments(df: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "due": df["at"] + pd.Timedelta(days=30),
            "hour": df["at"].dt.hour,
            "name": df["name"].fillna("nobody"),
            "count": df["count"],
            "note": df["name"].where(df["name"] == "a"),
        }
    )


def test_a_function_sees_and_answers_times_and_missing_values_as_they_are():
    sample = pd.DataFrame(
        {
            "at": pd.to_datetime(["2026-07-01 12:00", "2026-01-01 00:30", None]).tz_localize("Asia/Seoul"),
            "name": ["a", None, "b"],
            "count": pd.array([1, None, 3], "Int64"),
        }
    )
    candidate = proved(moments, sample)
    answer = to_frame(run(candidate.export, candidate.inputs), sample.index, candidate.export.signature.outputs)
    assert str(answer.due.dt.tz) == "Asia/Seoul"
    assert answer.due[0] == pd.Timestamp("2026-07-31 12:00", tz="Asia/Seoul")
    assert pd.isna(answer.due[2])
    assert answer["count"].tolist() == [1, pd.NA, 3]
    assert answer["hour"][:2].tolist() == [12, 0]
    assert answer["name"].tolist() == ["a", "nobody", "b"]
    assert answer.note.isna().tolist() == [False, True, True]


class Verdict(TypedDict):
    score: float
    band: str | None
    since: date


def hinted(df: pd.DataFrame) -> Verdict:
    return {"score": df.hour, "band": df.carrier, "since": [date(2026, 1, 1)] * len(df)}


def said_otherwise(df: pd.DataFrame) -> Verdict:
    return {"score": df.hour}


def scalar(df) -> float:
    return df.hour


class TestHints:
    def test_a_typed_dict_names_and_types_the_outputs(self, frame):
        candidate = proved(hinted, frame)
        told = {c.name: (c.dtype, c.logical, c.missing) for c in candidate.export.signature.outputs}
        assert told == {
            "score": ("FP64", None, None),
            "band": ("BYTES", None, ""),
            "since": ("INT64", "date", -(2**63)),
        }

    def test_a_plain_type_is_that_of_the_one_output(self, frame):
        assert outputs(proved(scalar, frame)) == {"prediction": ("FP64", (1,))}

    def test_an_answer_that_is_not_what_the_hint_says_is_refused(self, frame):
        with pytest.raises(Invalid, match="says it answers band, score, since, and answers score"):
            Candidate.exported(exporter_for(said_otherwise), said_otherwise, frame)
