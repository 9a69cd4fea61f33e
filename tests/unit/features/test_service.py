"""Features without a workbench: register, materialize, read."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

import themisto
from themisto.errors import Failed, Invalid, NotFound
from themisto.features.nouns import moment
from themisto.features.service import Features


def test_applying_the_same_again_changes_nothing(applied: Features, weather: themisto.FeatureView) -> None:
    before = applied.list()
    applied.apply(weather, themisto.FeatureService("delay", features=["weather:temp", "weather:sky"]))
    assert [v.view for v in applied.list()[0]] == [v.view for v in before[0]]
    assert applied.list()[1] == before[1]


def test_changed_service_is_the_next_version_and_the_old_one_stays(applied: Features) -> None:
    applied.apply(themisto.FeatureService("delay", features=["weather"]))
    assert applied.service("delay").version == 2
    assert [c.name for c in applied.service("delay@1").columns] == ["temp", "sky"]


def test_get_answers_newest_rows_in_order(applied: Features) -> None:
    applied.materialize("weather")
    found = applied.get("delay", origin=["LGA", "XXX", "JFK", "LGA"])
    assert found["temp"].fillna(-1).tolist() == [2.0, -1, 3.0, 2.0]
    assert found["event_time"].iloc[2] == pd.Timestamp("2013-01-01 12:00", tz="UTC")


def test_materialize_keeps_to_its_span_and_late_rows_lose(applied: Features) -> None:
    applied.materialize("weather", until="2013-01-01T11:00")
    assert applied.get("delay", origin="JFK")["temp"].tolist() == [1.5]
    applied.materialize("weather")
    applied.materialize("weather", until=datetime(2013, 1, 1, 11, tzinfo=UTC))
    assert applied.get("delay", origin="JFK")["temp"].tolist() == [3.0]


def test_old_service_version_reads_on_after_the_view_changed(
    applied: Features, airport: themisto.Entity, weather_rows: pd.DataFrame
) -> None:
    applied.apply(
        themisto.FeatureView("weather", entity=airport, at="time_hour", source=weather_rows.assign(wind=[1, 2, 3, 4]))
    )
    applied.materialize("weather")
    assert applied.show("weather").view.version == 2
    assert applied.get("delay@1", origin="JFK")["temp"].tolist() == [3.0]


def test_reading_what_was_never_materialized_is_told(applied: Features) -> None:
    with pytest.raises(NotFound, match="materialize"):
        applied.get("delay", origin="JFK")


def test_keys_are_cast_and_checked(features: Features) -> None:
    rows = pd.DataFrame({"customer": [1, 2], "at": pd.to_datetime(["2024-01-01"] * 2), "score": [0.5, 0.7]})
    view = themisto.FeatureView("scores", entity=themisto.Entity("customer", keys=["customer"]), at="at", source=rows)
    features.apply(view, themisto.FeatureService("credit", features=[view]))
    features.materialize("scores")
    assert features.get("credit", customer="2")["score"].tolist() == [0.7]
    with pytest.raises(Invalid, match="int64"):
        features.get("credit", customer="two")
    with pytest.raises(Invalid, match="read by customer"):
        features.get("credit", client="2")


def test_defaults_fill_in(applied: Features) -> None:
    applied.apply(
        themisto.FeatureService("mild", features=["weather:temp"], on_missing="default", defaults={"temp": 10.0})
    )
    applied.materialize("weather")
    assert applied.get("mild", origin="XXX")["temp"].tolist() == [10.0]
    with pytest.raises(Invalid, match="no float64"):
        applied.apply(themisto.FeatureService("mild", features=["weather:temp"], defaults={"temp": "warm"}))


def test_unknown_names_are_told_with_what_there_is(applied: Features) -> None:
    with pytest.raises(NotFound, match="Did you mean delay"):
        applied.service("delays")
    with pytest.raises(NotFound, match="Did you mean weather"):
        applied.show("wether")
    with pytest.raises(NotFound, match="Did you mean temp"):
        applied.apply(themisto.FeatureService("s", features=["weather:tmp"]))


def test_freshness_says_how_far(applied: Features) -> None:
    assert applied.freshness()[0].online_to is None
    applied.materialize("weather", until="2013-01-01T11:00")
    fresh = applied.freshness()[0]
    assert fresh.online_to == datetime(2013, 1, 1, 10, tzinfo=UTC)
    assert fresh.offline_to == datetime(2013, 1, 1, 12, tzinfo=UTC)


def test_a_new_version_is_not_online_before_it_was_brought_there(
    applied: Features, airport: themisto.Entity, weather_rows: pd.DataFrame
) -> None:
    applied.materialize("weather")
    rows = weather_rows.assign(temp=weather_rows.temp.astype("float32"))
    applied.apply(themisto.FeatureView("weather", entity=airport, at="time_hour", source=rows))
    (fresh,) = applied.freshness()
    assert (fresh.version, fresh.online_to, fresh.online_rows, fresh.materialized_at) == (2, None, 0, None)
    applied.materialize("weather")
    (fresh,) = applied.freshness()
    assert (fresh.online_to, fresh.online_rows) == (datetime(2013, 1, 1, 12, tzinfo=UTC), 2)


def test_moments() -> None:
    assert moment("2013-06-01") == datetime(2013, 6, 1, tzinfo=UTC)
    assert moment("2013-06-01T09:00+09:00") == datetime(2013, 6, 1, tzinfo=UTC)
    with pytest.raises(Invalid, match="no time"):
        moment("yesterday")


def test_service_whose_view_lost_a_feature_is_told(
    applied: Features, airport: themisto.Entity, weather_rows: pd.DataFrame
) -> None:
    rows = weather_rows.drop(columns="sky")
    applied.apply(themisto.FeatureView("weather", entity=airport, at="time_hour", source=rows))
    with pytest.raises(
        Invalid, match=r"delay@1 reads weather:sky \(string\), and version 2 of the view has it no more"
    ):
        applied.historical(rows[["origin", "time_hour"]], "delay")
    other = weather_rows.assign(sky=1)
    applied.apply(themisto.FeatureView("weather", entity=airport, at="time_hour", source=other))
    with pytest.raises(Invalid, match=r"weather:sky \(string\), and version 3 of the view has it as int64"):
        applied.historical(rows[["origin", "time_hour"]], "delay")


def test_stopping_says_how_things_stand(applied: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(applied.registry, "materialize", stopped)
    with pytest.raises(Failed, match="You stopped it"):
        applied.materialize("weather")


def spending(rows: pd.DataFrame, **more) -> themisto.FeatureView:
    customer = themisto.Entity("customer", keys=["customer"])
    given = {"every": "5m", "aggregates": [themisto.Aggregate("amount", "sum", over="1h")]} | more
    return themisto.FeatureView("spending", entity=customer, at="paid_at", source=rows, **given)


@pytest.fixture
def payments() -> pd.DataFrame:
    paid = pd.Timestamp.now(tz="UTC").floor("5min") - pd.to_timedelta([1, 40], unit="min")
    return pd.DataFrame({"customer": [7, 7], "paid_at": paid, "amount": [2.0, 3.0]})


def test_older_service_keeps_the_windows_it_was_made_on(features: Features, payments: pd.DataFrame) -> None:
    service = themisto.FeatureService("scoring", features=["spending"])
    features.apply(spending(payments), service)
    features.apply(spending(payments, every="1h", aggregates=[themisto.Aggregate("amount", "sum", over="2h")]))
    features.apply(service)
    features.materialize("spending")
    assert [features.service(f"scoring@{n}").windows["spending"].every_s for n in (1, 2)] == [300, 3600]
    assert features.get("scoring@1", customer=7)["sum_amount_1h"].tolist() == [5.0]
    spine = pd.DataFrame({"customer": [7], "paid_at": [pd.Timestamp.now(tz="UTC")]})
    assert features.historical(spine, "scoring@1")["sum_amount_1h"].tolist() == [5.0]
    read, joined = features.get("scoring", customer=7), features.historical(spine, "scoring")
    assert read["sum_amount_2h"].tolist() == joined["sum_amount_2h"].tolist()


def test_service_on_events_that_are_gone_is_told(features: Features, payments: pd.DataFrame) -> None:
    features.apply(spending(payments), themisto.FeatureService("scoring", features=["spending"]))
    renamed = payments.rename(columns={"amount": "eur"})
    features.apply(spending(renamed, aggregates=[themisto.Aggregate("eur", "sum", over="1h")]))
    spine = pd.DataFrame({"customer": [7], "paid_at": [pd.Timestamp.now(tz="UTC")]})
    with pytest.raises(Invalid, match=r"reads spending:amount \(float64\), and version 2"):
        features.historical(spine, "scoring")


def test_check_of_a_windowed_service_looks_at_fresh_rows(features: Features, payments: pd.DataFrame) -> None:
    features.apply(spending(payments), themisto.FeatureService("scoring", features=["spending"]))
    assert features.check("scoring").of("likeness") == []
    assert "spending has windows of events" in features.check("scoring").skipped["windows"]
    fresh = pd.DataFrame({"sum_amount_1h": [1.0, None]})
    assert features.check("scoring", fresh).of("likeness") == []
    (wrong,) = features.check("scoring", fresh.assign(sum_amount_1h="much")).of("likeness")
    assert "not float64" in wrong.detail


def test_apply_says_what_changed_and_what_it_means_to_data(
    applied: Features, weather: themisto.FeatureView, weather_rows: pd.DataFrame, airport: themisto.Entity
) -> None:
    def view(**more) -> themisto.FeatureView:
        return themisto.FeatureView(
            "weather", entity=airport, at="time_hour", source=weather_rows, **{"ttl": "3h"} | more
        )

    service = themisto.FeatureService("delay", features=["weather:temp", "weather:sky"])
    (said,) = applied.plan(view(owner="data", online={"keep": 3}))
    assert (said.effect, said.data) == ("said", "nothing")
    assert said.lines == ("online.keep: 1 -> 3", "owner: none -> data")
    (asks,) = applied.plan(view(expect=[themisto.Expect("temp", between=(-60, None), nulls="<= 5%")]))
    assert (asks.effect, asks.lines) == ("said", ("expect: none -> temp at least -60, temp at most 5 % empty",))
    assert "judged anew" in asks.data
    meant, follows = applied.plan(service, view(ttl="6h", features=["temp", {"name": "sky", "nullable": False}]))
    assert meant.effect == "version"
    assert "ttl_s: 10800.0 -> 21600.0" in meant.lines
    assert "features.gusts: gone" in meant.lines
    assert "features.sky.nullable: True -> False" in meant.lines
    assert "backfill" in meant.data
    assert follows.effect == "version"
    assert applied.show("weather").view.version == 1, "a plan changes nothing"
    assert [done.change.effect for done in applied.apply(weather, service)] == ["nothing", "nothing"]
    assert [c.effect for c in applied.plan(themisto.Entity("pilot", keys=["pilot"]))] == ["new"]


def test_as_of_is_the_past_as_it_was(applied: Features) -> None:
    applied.materialize("weather")
    assert applied.get("delay", origin="JFK")["temp"].tolist() == [3.0]
    past = applied.get("delay", as_of="2013-01-01T11:00", origin=["JFK", "LGA", "EWR"])
    assert past["temp"].fillna(-1).tolist() == [1.5, 2.0, -1]
    assert list(past.columns) == ["origin", "temp", "sky", "event_time"]
    assert applied.get("delay", as_of="2013-01-01T09:00", origin="JFK")["temp"].isna().all()


def test_pushed_events_are_in_the_windows_at_once_and_corrected_ones_too(
    features: Features, payments: pd.DataFrame
) -> None:
    features.apply(spending(payments), themisto.FeatureService("scoring", features=["spending"]))
    features.materialize("spending")
    for _ in range(2):
        features.push("spending", payments.iloc[:1].assign(paid_at=payments["paid_at"][1], customer=8, amount=9.0))
    assert features.get("scoring", customer=[7, 8])["sum_amount_1h"].tolist() == [5.0, 9.0]
    features.apply(spending(payments.assign(amount=[20.0, 3.0]).iloc[:1]))
    features.materialize("spending")
    read = features.get("scoring", customer=[7, 8])["sum_amount_1h"].tolist()
    spine = pd.DataFrame({"customer": [7, 8], "paid_at": [pd.Timestamp.now(tz="UTC")] * 2})
    assert read == features.historical(spine, "scoring")["sum_amount_1h"].tolist() == [20.0, 9.0]
    assert (
        features.get("scoring", customer=7, as_of=pd.Timestamp.now(tz="UTC").to_pydatetime())["sum_amount_1h"][0]
        == 20.0
    )
    features.erase("customer", customer=7)
    features.materialize("spending", full=True)
    assert features.get("scoring", customer=[7, 8])["sum_amount_1h"].tolist() == [0.0, 9.0]


def test_push_goes_through_the_transform(features: Features, payments: pd.DataFrame) -> None:
    double = "SELECT customer, paid_at, amount * 2 AS amount FROM source"
    features.apply(spending(payments, transform=double), themisto.FeatureService("scoring", features=["spending"]))
    features.materialize("spending")
    features.push("spending", payments.assign(customer=9))
    assert features.get("scoring", customer=[7, 9])["sum_amount_1h"].tolist() == [10.0, 10.0]
