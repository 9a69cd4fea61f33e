"""Deploying through HTTP: the straight path, the same command again, and everything that may be wrong."""

from __future__ import annotations

import time
from datetime import date
from types import SimpleNamespace

import pandas as pd
import pytest

from themisto.errors import Conflict, Failed, Invalid, NotFound, ParityError, Unavailable
from themisto.serving.display import Deployment
from themisto.serving.parity import Tolerance


def versions(tracking, name):
    return tracking.connection.client.search_model_versions(f"name = '{name}'")


def test_deploy_exports_proves_logs_and_releases(serving, tracking, plane, booster, numbers):
    outcome, stages = serving.deploy("credit", booster, numbers, slo=["p99=10ms"], batch="max=32,delay=200us")
    assert [s.name for s in stages] == ["export", "parity", "log", "release", "load"]
    assert str(outcome.release) == "credit@1"
    assert outcome.rollout.state == "done"
    stored = plane.releases["credit"][0]
    assert stored.artifact.sha256 in plane.artifacts
    assert stored.serving.max_batch == 32
    assert stored.serving.queue_delay_us == 200
    assert [(c.name, c.dtype) for c in stored.signature.inputs] == [
        ("hour", "INT64"),
        ("dist", "FP64"),
        ("temp", "FP32"),
    ]
    assert len(stored.golden.inputs["hour"]) == 32
    assert stored.model_version == "models:/credit/1"
    assert len(versions(tracking, "credit")) == 1


def test_the_same_command_again_is_the_same_release(serving, tracking, plane, booster, numbers):
    first, _ = serving.deploy("again", booster, numbers)
    second, _ = serving.deploy("again", booster, numbers)
    assert second.release.id == first.release.id
    assert len(plane.releases["again"]) == 1
    assert len(versions(tracking, "again")) == 1


def test_another_model_is_another_release_in_canary(serving, plane, booster, numbers, late):
    import lightgbm as lgb

    serving.deploy("delay", booster, numbers)
    other = lgb.LGBMClassifier(n_estimators=10, verbose=-1).fit(numbers, late)
    outcome, _ = serving.deploy("delay", other, numbers, weight_pct=20)
    assert str(outcome.release) == "delay@2"
    assert (outcome.rollout.state, outcome.rollout.weight_pct) == ("running", 20)


def test_the_same_release_with_another_weight_says_that_it_is_on_its_way(serving, booster, numbers, late):
    import lightgbm as lgb

    serving.deploy("weights", booster, numbers)
    other = lgb.LGBMClassifier(n_estimators=10, verbose=-1).fit(numbers, late)
    serving.deploy("weights", other, numbers, weight_pct=5)
    outcome, stages = serving.deploy("weights", other, numbers, weight_pct=20)
    assert outcome.rollout.weight_pct == 5
    assert "on its way already" in Deployment(outcome, stages, gateway="http://gateway").note


def test_dry_run_records_nothing(serving, tracking, plane, booster, numbers):
    outcome, _ = serving.deploy("dry", booster, numbers, dry_run=True)
    assert outcome.release is None
    assert plane.releases == {}
    assert plane.artifacts == {}
    assert versions(tracking, "dry") == []
    assert "dry run" in repr(Deployment(outcome, _, gateway="http://gateway"))


def test_scaler_before_xgboost_is_refused_and_nothing_is_created(serving, tracking, plane, frame, late):
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from xgboost import XGBClassifier

    prepare = ColumnTransformer(
        [("words", OneHotEncoder(), ["carrier"]), ("numbers", StandardScaler(), ["hour", "dist", "temp"])]
    )
    big = pd.concat([frame] * 5, ignore_index=True)
    big["dist"] += pd.Series(range(len(big))) * 0.01
    model = Pipeline([("prepare", prepare), ("model", XGBClassifier(n_estimators=100))]).fit(
        big, pd.concat([late] * 5, ignore_index=True)
    )
    with pytest.raises(ParityError) as caught:
        serving.deploy("refused", model, big)
    assert "rows otherwise than the model" in caught.value.detail
    assert "expected probabilities" in caught.value.detail
    assert "AA" in caught.value.detail or "DL" in caught.value.detail or "UA" in caught.value.detail
    assert "Nothing was deployed" in caught.value.remedy
    assert plane.artifacts == {}
    assert plane.releases == {}
    assert plane.endpoints == {}
    assert versions(tracking, "refused") == []


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"endpoint": "Credit"}, Invalid, "no endpoint name"),
        ({"endpoint": "a b"}, Invalid, "no endpoint name"),
        ({"endpoint": "x; rm"}, Invalid, "no endpoint name"),
        ({"profile": "cpu-smal"}, NotFound, "Did you mean cpu-small"),
        ({"profile": "job-small"}, NotFound, "for models"),
        ({"features": "flights"}, NotFound, "There is no feature service 'flights'"),
        ({"weight_pct": 0}, Invalid, "no share"),
        ({"weight_pct": 101}, Invalid, "no share"),
        ({"slo": ["p99=fast"]}, Invalid, "no service level"),
        ({"slo": ["latency=1ms"]}, Invalid, "no service level"),
        ({"batch": "max=0"}, Invalid, "no batch setting"),
        ({"batch": "size=3"}, Invalid, "no batch setting"),
        ({"tier": "test"}, Invalid, "tier"),
        ({"cell": "x" * 200_001}, Invalid, "200,001 characters"),
        ({"sample": None}, Invalid, "not a DataFrame"),
        ({"sample": [1, 2]}, Invalid, "a list, not a DataFrame"),
        ({"sample": pd.DataFrame()}, Invalid, "has no rows"),
        ({"sample": pd.DataFrame({"hour": [], "dist": [], "temp": []})}, Invalid, "has no rows"),
        ({"sample": pd.DataFrame({"hour": [1], "distance": [1.0], "temp": [1.0]})}, Invalid, "there is 'distance'"),
        ({"model": None}, Invalid, "no last value"),
        ({"model": 3}, Invalid, "Nothing can export"),
        ({"model": "text"}, Invalid, "Nothing can export"),
    ],
)
def test_bad_input_is_one_sentence_and_creates_nothing(serving, plane, booster, numbers, options, error, says):
    given = {"endpoint": "bad", "model": booster, "sample": numbers} | options
    endpoint, model, sample = given.pop("endpoint"), given.pop("model"), given.pop("sample")
    with pytest.raises(error, match=says) as caught:
        serving.deploy(endpoint, model, sample, **given)
    assert caught.value.remedy
    assert plane.releases == {}
    assert plane.artifacts == {}


def test_columns_the_model_does_not_know_are_left_out(serving, booster, frame):
    outcome, _ = serving.deploy("more", booster, frame, dry_run=True)
    assert [c.name for c in outcome.request.signature.inputs] == ["hour", "dist", "temp"]


def test_one_row_is_taken_and_told(serving, booster, numbers):
    outcome, stages = serving.deploy("one", booster, numbers.head(1), dry_run=True)
    assert "one row" in Deployment(outcome, stages, gateway="http://gateway").note


def test_times_are_refused_for_a_model_with_what_to_do(serving, numbers, late):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500).fit(numbers.to_numpy(), late)
    with pytest.raises(Invalid, match="holds times"):
        serving.deploy("times", model, numbers.assign(dist=pd.Timestamp("2026-01-01")))


def test_native_is_asked_for_and_told_with_what_it_costs(serving, plane, booster, numbers):
    outcome, stages = serving.deploy("kept", booster, numbers, native=True)
    assert outcome.release.artifact.kind == "python"
    assert outcome.release.artifact.is_code
    (cost,) = [stage.note for stage in stages if stage.name == "cost"]
    assert "ms at p50, as ONNX" in cost
    answer = serving.endpoint("kept").predict(numbers.head(5))
    assert answer.label.tolist() == booster.predict(numbers.head(5)).tolist()


def test_tracking_down_is_one_sentence_and_no_release(settings, plane, booster, numbers):
    from themisto.client import ControlPlane
    from themisto.serving.service import Serving
    from themisto.tracking.service import Tracking

    control = ControlPlane(settings)
    control.__dict__["discovery"] = control.discovery.model_copy(update={"tracking": "http://127.0.0.1:9/tracking"})
    with pytest.raises(Unavailable, match="tracking server cannot be reached"):
        Serving(settings, control, Tracking(settings, control)).deploy("nolog", booster, numbers)
    assert plane.releases == {}
    assert plane.artifacts == {}


def test_control_plane_down_is_one_sentence_and_works_afterwards(serving, plane, booster, numbers):
    plane.down.add("control")
    with pytest.raises(Unavailable, match="control plane"):
        serving.deploy("downfirst", booster, numbers)
    plane.down.clear()
    assert str(serving.deploy("downfirst", booster, numbers)[0].release) == "downfirst@1"


def test_a_rollout_that_fails_says_why_and_may_be_tried_again(serving, plane, booster, numbers):
    plane.fail_with = "Triton says: out of memory."
    with pytest.raises(Failed, match="out of memory"):
        serving.deploy("tried", booster, numbers)
    plane.fail_with = ""
    outcome, _ = serving.deploy("tried", booster, numbers)
    assert outcome.rollout.state == "done"
    assert str(outcome.release) == "tried@1"
    assert len(set(plane.idempotency)) == 2


def test_another_release_on_its_way_is_a_conflict_before_anything_is_stored(serving, plane, booster, numbers, late):
    import lightgbm as lgb

    models = [lgb.LGBMClassifier(n_estimators=n, verbose=-1).fit(numbers, late) for n in (5, 6)]
    serving.deploy("busy", booster, numbers)
    serving.deploy("busy", models[0], numbers)
    stored = dict(plane.artifacts)
    with pytest.raises(Conflict, match="busy@2 is on its way"):
        serving.deploy("busy", models[1], numbers)
    assert plane.artifacts == stored


def test_the_tier_of_an_endpoint_never_changes(serving, booster, numbers):
    serving.deploy("tiered", booster, numbers)
    with pytest.raises(Conflict, match="dev endpoint"):
        serving.deploy("tiered", booster, numbers, tier="prod")


def test_prod_waits_for_approval_and_shows_the_page(serving, booster, numbers):
    outcome, stages = serving.deploy("mortgage", booster, numbers, tier="prod")
    shown = Deployment(outcome, stages, gateway="http://gateway")
    assert outcome.rollout.state == "waiting_approval"
    assert shown.review_url in repr(shown)
    assert serving.review_url("mortgage") == shown.review_url


def test_interrupt_while_loading_says_what_is_recorded_and_the_same_command_goes_on(
    serving, plane, booster, numbers, monkeypatch
):
    plane.looks_while_loading = 5

    def interrupt(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        clock = SimpleNamespace(sleep=interrupt, monotonic=time.monotonic)
        patched.setattr("themisto.serving.deploying.time", clock)
        with pytest.raises(Failed, match="stopped@1 was loading; it is recorded"):
            serving.deploy("stopped", booster, numbers)
    outcome, _ = serving.deploy("stopped", booster, numbers)
    assert str(outcome.release) == "stopped@1"
    assert outcome.rollout.state == "done"


def test_interrupt_during_export_says_that_nothing_has_changed(serving, plane, booster, numbers, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("themisto.serving.candidate.compare", interrupt)
    with pytest.raises(Failed, match="stage 'parity'; no release was recorded"):
        serving.deploy("early", booster, numbers)
    assert plane.releases == {}


def test_feature_service_is_pinned_to_its_version(serving, plane, booster, numbers):
    plane.services["flights"] = service("flights", ["hour", "dist", "temp"])
    outcome, _ = serving.deploy("withfeatures", booster, numbers, features="flights")
    assert outcome.release.feature_service == "flights@3"


def test_feature_service_without_the_models_columns_is_refused(serving, plane, booster, numbers):
    plane.services["weather"] = service("weather", ["rain"])
    with pytest.raises(Invalid, match="takes none of weather@3's features: rain"):
        serving.deploy("nofeatures", booster, numbers, features="weather")


def test_a_wider_tolerance_can_be_asked_for(serving, booster, numbers):
    outcome, _ = serving.deploy("wide", booster, numbers, tolerance=Tolerance(rtol=1e-3), dry_run=True)
    assert outcome.request.golden.rtol == 1e-3


def service(name, columns):
    """A feature service as the control plane answers it."""
    return {
        "name": name,
        "version": 3,
        "keys": [],
        "columns": [
            {"name": c, "view": "view", "view_version": 1, "feature": "f", "dtype": "float64"} for c in columns
        ],
        "view_keys": {},
        "ttl_s": {},
        "on_missing": "refuse",
        "defaults": {},
    }


def test_times_dates_and_durations_are_deployed_and_logged(serving, plane):
    sample = pd.DataFrame(
        {
            "at": pd.to_datetime(["2026-07-01 12:00", None]).tz_localize("Asia/Seoul"),
            "day": pd.Series([date(2026, 1, 1), None], dtype=object),
            "took": pd.to_timedelta(["1h", None]),
            "count": pd.array([1, None], "Int64"),
            "known": pd.Series([True, None], dtype=object),
        }
    )
    outcome, _ = serving.deploy("moments", moments, sample)
    assert outcome.release.model_version == "models:/moments/1"
    answer = serving.endpoint("moments").predict(sample)
    assert answer.until[0] == pd.Timestamp("2026-07-01 13:00", tz="Asia/Seoul")
    assert answer.day[0] == date(2026, 1, 1)
    assert answer["count"].tolist() == [1, pd.NA]
    assert answer.known.tolist() == [True, pd.NA]
    assert answer.isna().iloc[1].all()


def moments(df):
    return pd.DataFrame(
        {
            "until": df["at"] + df["took"],
            "day": df["day"],
            "took": df["took"],
            "count": df["count"],
            "known": df["known"],
        }
    )
