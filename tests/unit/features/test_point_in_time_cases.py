"""Point-in-time joins as people coming from Feast know them: its own tests' cases, and where we differ on purpose."""

from __future__ import annotations

from typing import Any, NamedTuple
from unittest import mock

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid, NotFound
from themisto.features.merging import merged
from themisto.features.service import Features

DRIVER = themisto.Entity("driver", keys=["driver_id"])


def at(*moments: str | None) -> pd.Series:
    """Of 2025: month-day and hour."""
    return pd.to_datetime(pd.Series([None if m is None else f"2025-{m}" for m in moments]), utc=True, format="mixed")


class Case(NamedTuple):
    """rows: key, event time, created time, value. spine: key, time. found: what each row of the spine gets."""

    rows: list[tuple[Any, ...]]
    spine: list[tuple[Any, ...]]
    found: list[Any]
    ttl: str | None = None
    known: bool = False


TWICE = [(1, "01-01 10:00", "01-01 12:00", 0.4), (1, "01-01 10:00", "01-03 00:00", 0.6)]

CASES = {
    "of one event time the row created last": Case(
        [(1, "06-01", "06-01", 10), (1, "06-01", "06-02", 20)], [(1, "06-03")], [20]
    ),
    "of one event time the row created last, however they stand": Case(
        [(1, "06-01", "06-02", 20), (1, "06-01", "06-01", 10)], [(1, "06-03")], [20]
    ),
    "a backfill of an older event does not hide a newer one": Case(
        [(2, "06-01", "06-02", 30), (2, "06-02", "06-01", 40)], [(2, "06-03")], [40]
    ),
    "ties, a ttl, and several entities at once": Case(
        [
            (1, "01-01", "01-01", 11),
            (1, "01-03", "01-03", 22),
            (1, "01-04", "01-04", 33),
            (2, "01-01", "01-01", 22),
            (3, "01-02", "01-04", 10),
            (3, "01-02", "01-03", 20),
        ],
        [(1, "01-02"), (1, "01-03"), (2, "01-20"), (3, "01-04")],
        [11, 22, None, 10],
        ttl="10d",
    ),
    "one entity at several times": Case(
        [(1, "01-01", "01-01", 1), (1, "01-02", "01-02", 2), (1, "01-03", "01-03", 3)],
        [(1, "01-03 12:00"), (1, "01-01 12:00"), (1, "01-02 12:00")],
        [3, 1, 2],
    ),
    "one row of the spine twice stays twice": Case([(1, "01-01", "01-01", 1)], [(1, "01-02"), (1, "01-02")], [1, 1]),
    "an entity that nobody knows": Case([(1, "01-01", "01-01", 1)], [(9, "01-02"), (1, "01-02")], [None, 1]),
    "an entity without key": Case([(1, "01-01", "01-01", 1)], [(None, "01-02"), (1, "01-02")], [None, 1]),
    "an event at the very time": Case([(1, "01-02", "01-02", 1)], [(1, "01-02")], [1]),
    "an event in the future": Case([(1, "01-02", "01-02", 1)], [(1, "01-01")], [None]),
    "an event in the future hides none of the past": Case(
        [(1, "01-01", "01-01", 1), (1, "01-03", "01-03", 3)], [(1, "01-02")], [1]
    ),
    "an event exactly as old as its ttl": Case([(1, "01-01", "01-01", 1)], [(1, "01-02")], [1], ttl="1d"),
    "an event older than its ttl": Case([(1, "01-01", "01-01", 1)], [(1, "01-02 00:01")], [None], ttl="1d"),
    "without a ttl the oldest event": Case([(1, "01-01", "01-01", 1)], [(1, "12-31")], [1]),
    "an empty value of the newest event is empty": Case(
        [(1, "01-01", "01-01", 1), (1, "01-02", "01-02", None)], [(1, "01-03")], [None]
    ),
    "what was created after the row's time counts": Case(TWICE, [(1, "01-02")], [0.6]),
    "known: what was created after the row's time does not": Case(TWICE, [(1, "01-02")], [0.4], known=True),
    "known: the row is kept where all was created later": Case(
        [(1, "01-01 10:00", "01-03", 0.4), (1, "01-01 11:00", "01-04", 0.6)], [(1, "01-02")], [None], known=True
    ),
    "known: nobody borrows another's": Case(
        [(1, "01-01 10:00", "01-01 12:00", 0.4), (2, "01-01 10:00", "01-03", 0.6)],
        [(1, "01-02"), (2, "01-02")],
        [0.4, None],
        known=True,
    ),
    "known: an event without created time is none": Case(
        [(1, "01-01 10:00", "01-01 12:00", 0.4), (1, "01-01 10:00", None, 0.6)], [(1, "01-02")], [0.4], known=True
    ),
    "known: a late correction is seen from its created time on": Case(
        TWICE, [(1, "01-02 23:59"), (1, "01-03"), (1, "01-01 11:00")], [0.4, 0.6, None], known=True
    ),
    "differs from Feast: an event without created time is none, whether known or not": Case(
        [(1, "01-01 10:00", None, 0.6)], [(1, "01-02")], [None]
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "in SQL"])
def test_a_row_gets_what_was_so_at_its_time(features: Features, case: Case, in_memory: bool) -> None:
    keys, moments, created, values = zip(*case.rows, strict=True)
    numbers = pd.Series(values, dtype=float)
    rows = pd.DataFrame({"driver_id": keys, "t": at(*moments), "created": at(*created), "v": numbers})
    view = themisto.FeatureView("stats", entity=DRIVER, at="t", created="created", ttl=case.ttl, source=rows)
    features.apply(view, themisto.FeatureService("s", features=["stats"]))
    who, when = zip(*case.spine, strict=True)
    spine = pd.DataFrame({"driver_id": pd.Series(who, dtype="Int64"), "t": at(*when), "label": range(len(who))})
    with mock.patch("themisto.features.join.merged", merged if in_memory else lambda *_, **__: None):
        found = features.historical(spine, "s", known=case.known)
    pd.testing.assert_frame_equal(found[["driver_id", "t", "label"]], spine)
    assert [None if pd.isna(v) else v for v in found["v"]] == case.found


def stats(name: str, keys: list[str], rows: dict[str, Any], **more: Any) -> themisto.FeatureView:
    entity = themisto.Entity("_".join(keys), keys=keys)
    return themisto.FeatureView(name, entity=entity, at="t", source=pd.DataFrame(rows), **more)


def test_keys_of_several_columns_match_as_a_whole(features: Features) -> None:
    rows = {"user": [1, 1, 2], "device": ["a", "b", "a"], "t": at(*["01-01"] * 3), "v": [1.0, 2.0, 3.0]}
    features.apply(stats("s", ["user", "device"], rows), themisto.FeatureService("s", features=["s"]))
    spine = pd.DataFrame({"device": ["a", "b", "b"], "user": [2, 1, 2], "t": at(*["01-02"] * 3)})
    assert features.historical(spine, "s")["v"].fillna(-1).tolist() == [3, 2, -1]


def test_views_of_different_keys_and_ttls_are_joined_side_by_side(features: Features) -> None:
    of_user = stats("users", ["user"], {"user": [1, 2], "t": at("01-01", "01-01"), "age": [30.0, 40.0]}, ttl="30d")
    both = {"user": [1, 2], "device": ["a", "a"], "t": at("01-01", "01-09"), "uses": [5.0, 6.0]}
    of_both = stats("uses", ["user", "device"], both, ttl="2d")
    features.apply(of_user, of_both, themisto.FeatureService("s", features=["users", "uses"]))
    spine = pd.DataFrame({"user": [1, 2, 2], "device": ["a", "a", "x"], "t": at(*["01-10"] * 3)})
    found = features.historical(spine, "s")
    assert found["age"].tolist() == [30, 40, 40]
    assert found["uses"].fillna(-1).tolist() == [-1, 6, -1]


def test_a_narrower_integer_is_the_same_key(features: Features) -> None:
    features.apply(
        stats("s", ["driver_id"], {"driver_id": [1], "t": at("01-01"), "v": [1.0]}),
        themisto.FeatureService("s", features=["s"]),
    )
    spine = pd.DataFrame({"driver_id": pd.Series([1], dtype="int32"), "t": at("01-02")})
    assert features.historical(spine, "s")["v"].tolist() == [1]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul", "America/New_York"])
def test_one_moment_is_one_in_every_time_zone(features: Features, zone: str) -> None:
    rows = {"driver_id": [1, 1], "t": at("03-09 06:59", "03-09 07:00"), "v": [1.0, 2.0]}
    features.apply(stats("s", ["driver_id"], rows), themisto.FeatureService("s", features=["s"]))
    moments = at("03-09 06:59", "03-09 07:00", "03-09 06:58").dt.tz_convert(zone)  # where New York skips an hour
    found = features.historical(pd.DataFrame({"driver_id": [1, 1, 1], "t": moments}), "s")
    assert found["v"].fillna(-1).tolist() == [1, 2, -1]
    assert str(found["t"].dt.tz) == zone


def test_the_spines_time_may_have_another_name(features: Features) -> None:
    rows = {"driver_id": [1], "t": at("01-01"), "v": [1.0]}
    features.apply(stats("s", ["driver_id"], rows), themisto.FeatureService("s", features=["s"]))
    spine = pd.DataFrame({"driver_id": [1], "e_ts": at("01-02"), "other": at("01-01")})
    assert features.historical(spine, "s", at="e_ts")["v"].tolist() == [1]


def test_a_feature_that_one_of_two_views_of_a_source_lacks_is_told(features: Features) -> None:
    rows = {"driver_id": [1], "t": at("01-01"), "trips": [1.0], "rate": [0.5]}
    first = stats("first", ["driver_id"], rows, features=["trips"])
    features.apply(first, stats("second", ["driver_id"], rows))
    with pytest.raises(NotFound, match="'first' has no feature 'rate'"):
        features.apply(themisto.FeatureService("s", features=["first:rate"]))


def test_a_spine_of_sql_is_joined_as_one_of_rows(features: Features) -> None:
    rows = {"driver_id": [1, 2], "t": at("01-01", "01-01"), "v": [1.0, 2.0]}
    features.apply(stats("s", ["driver_id"], rows), themisto.FeatureService("s", features=["s"]))
    orders = pd.DataFrame({"driver_id": [2, 1], "t": at("01-02", "01-03")})
    by_sql = features.historical("SELECT driver_id, t FROM orders ORDER BY t", "s", frames={"orders": orders})
    assert by_sql["v"].tolist() == features.historical(orders, "s")["v"].tolist() == [2, 1]


def test_differs_from_feast_ttl_of_zero_is_no_way_to_say_without_end() -> None:
    rows = {"driver_id": [1], "t": at("01-01"), "v": [1.0]}
    with pytest.raises(Invalid, match="ttl is 0, and must be more than 0") as told:
        stats("s", ["driver_id"], rows, ttl=0)
    assert told.value.remedy == "Leave it out where there is no limit."


def test_differs_from_feast_views_names_stand_before_features_where_two_have_one_name(features: Features) -> None:
    rows = {"driver_id": [1], "t": at("01-01"), "trips": [1.0], "rate": [0.5]}
    first, second = stats("first", ["driver_id"], rows), stats("second", ["driver_id"], rows, features=["rate"])
    features.apply(first, second, themisto.FeatureService("s", features=["first", "second"]))
    found = features.historical(pd.DataFrame({"driver_id": [1], "t": at("01-02")}), "s")
    assert list(found.columns) == ["driver_id", "t", "trips", "first__rate", "second__rate"]


def test_differs_from_feast_a_view_in_two_roles_is_two_views_by_their_transforms(features: Features) -> None:
    places = {"location_id": [1, 2], "t": at("01-01", "01-01"), "temperature": [10.0, 20.0]}

    def role(name: str) -> themisto.FeatureView:
        entity = themisto.Entity(name, keys=[f"{name}_id"])
        renamed = f"SELECT location_id AS {name}_id, t, temperature FROM source"
        return themisto.FeatureView(name, entity=entity, at="t", source=pd.DataFrame(places), transform=renamed)

    features.apply(role("origin"), role("dest"), themisto.FeatureService("s", features=["origin", "dest"]))
    found = features.historical(pd.DataFrame({"origin_id": [1, 2], "dest_id": [2, 3], "t": at("01-02", "01-02")}), "s")
    assert found["origin__temperature"].tolist() == [10, 20]
    assert found["dest__temperature"].fillna(-1).tolist() == [20, -1]


def test_differs_from_feast_a_view_about_everything_has_a_key_too(features: Features) -> None:
    with pytest.raises(Invalid, match="keys names nothing"):
        themisto.Entity("world", keys=[])
    rows = {"world": ["all"], "t": at("01-01"), "rides": [7.0]}
    features.apply(stats("global", ["world"], rows), themisto.FeatureService("s", features=["global"]))
    assert features.historical(pd.DataFrame({"world": ["all"], "t": at("01-02")}), "s")["rides"].tolist() == [7]


def test_differs_from_feast_all_rows_of_a_view_are_a_spine_of_sql(features: Features) -> None:
    rows = {"driver_id": [1, 1, 2], "t": at("01-01", "01-02", "01-01"), "v": [1.0, 2.0, 3.0]}
    features.apply(stats("s", ["driver_id"], rows), themisto.FeatureService("s", features=["s"]))
    found = features.historical("SELECT driver_id, t FROM s WHERE t < '2025-01-02' ORDER BY driver_id", "s")
    assert found["v"].tolist() == [1, 3]


def test_differs_from_feast_the_future_is_never_an_answer_not_even_online_as_of_then(features: Features) -> None:
    rows = {"driver_id": [1], "t": at("01-02"), "v": [1.0]}
    features.apply(stats("s", ["driver_id"], rows), themisto.FeatureService("s", features=["s"]))
    assert features.get("s", driver_id=1, as_of="2025-01-01")["v"].isna().all()
    assert features.get("s", driver_id=1, as_of="2025-01-02")["v"].tolist() == [1]
