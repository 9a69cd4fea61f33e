"""Skew: rows held against each other, and a service held against its online store."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import themisto
from themisto.features.dtypes import Dtype
from themisto.features.findings import Finding
from themisto.features.online import OnlineTable
from themisto.features.service import Features
from themisto.features.skew import Row, Terms, explain
from themisto.types import utcnow

DTYPES: tuple[Dtype, ...] = ("float32", "float64", "int64", "string", "bool", "timestamp", "decimal", "list[float32]")
NOW = 10_000_000_000
floats = st.floats(width=32)
VALUES = st.tuples(
    st.none() | floats,
    st.none() | st.floats(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.text(max_size=3),
    st.none() | st.booleans(),
    st.none() | st.datetimes().map(lambda t: t.isoformat()),
    st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-9, max_value=9).map(str),
    st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3),
)
ROWS = st.none() | st.builds(Row, st.integers(NOW - 100, NOW).map(lambda s: s * 1), VALUES)
seconds = st.none() | st.integers(0, 100).map(lambda us: us / 1e6)
TERMS = st.builds(Terms, st.just(NOW), seconds, seconds, st.none() | st.integers(NOW - 100, NOW))


def dressed(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values as another store would give them."""
    out: list[Any] = []
    for dtype, value in zip(DTYPES, values, strict=True):
        if dtype == "float32" and isinstance(value, float) and math.isfinite(value):
            out.append(float(np.float32(value)) * (1 + 1e-12))
        elif dtype.startswith("float") and (value is None or not math.isfinite(value)):
            out.append(float("nan") if value is None else None)
        elif dtype == "timestamp" and value is not None:
            out.append(value + "+00:00")
        elif dtype == "decimal" and value is not None:
            out.append(value + "000000")
        elif dtype == "list[float32]" and value is not None:
            out.append([float(np.float32(v)) for v in value])
        else:
            out.append(value)
    return tuple(out)


@given(row=ROWS, terms=st.just(Terms(NOW)))
def test_one_row_in_two_dresses_is_no_difference(row: Row | None, terms: Terms) -> None:
    online = None if row is None else Row(row.at, dressed(row.values))
    assert explain(DTYPES, row, online, terms) is None


@given(offline=ROWS, online=ROWS, terms=TERMS)
def test_a_difference_is_told_where_the_model_sees_one_and_only_there(offline, online, terms) -> None:
    difference = explain(DTYPES, offline, online, terms)
    dead = offline is None or (terms.ttl_s is not None and (NOW - offline.at) > terms.ttl_s * 1e6 + 1e-6)
    trained = [None] * 8 if dead else list(offline.values)
    got = [None] * 8 if online is None else list(online.values)
    plain = [[None if isinstance(v, float) and not math.isfinite(v) else v for v in side] for side in (trained, got)]
    seen = {i for i in range(8) if plain[0][i] != plain[1][i]}
    assert (difference is None) == (not seen)
    if difference is None:
        return
    assert set(difference.columns) == seen
    if offline is None:
        assert difference.kind == "missing offline"
    elif online is None:
        assert difference.kind in ("expired", "late", "missing online")
        assert (difference.kind == "late") <= (terms.online_to is not None and terms.online_to < offline.at)
    elif online.at > offline.at:
        assert difference.kind == "missing offline"
    elif dead:
        assert difference.kind == "expired"
    else:
        assert difference.kind == ("late" if online.at < offline.at else "rewritten")


@given(row=ROWS.filter(lambda r: r is not None), place=st.integers(0, 7))
def test_a_value_of_another_type_is_told(row: Row, place: int) -> None:
    odd = {"extra": 1}
    values = (*row.values[:place], odd, *row.values[place + 1 :])
    assert explain(DTYPES, row, Row(row.at, values), Terms(NOW)) == ("type", (place,))


HOUR = timedelta(hours=1)


def rows(**columns: Any) -> pd.DataFrame:
    now = pd.Timestamp(utcnow())
    ages = columns.pop("hours")
    return pd.DataFrame(columns | {"at": [now - pd.Timedelta(hours=h) for h in ages]})


def view(source: pd.DataFrame, **more: Any) -> themisto.FeatureView:
    return themisto.FeatureView("acc", entity=themisto.Entity("account", keys=["who"]), at="at", source=source, **more)


def service(**more: Any) -> themisto.FeatureService:
    return themisto.FeatureService("s", features=["acc"], **more)


BASE: dict[str, Any] = {"who": ["a", "b"], "hours": [5, 5], "x": [1.0, 2.0], "n": [1, 2]}


def skew(features: Features, **more: Any) -> list[Finding]:
    return features.check("s", **more).of("skew")


def kinds(features: Features, **more: Any) -> dict[str, int]:
    return {f.figures["kind"]: f.figures["entities"] for f in skew(features, **more)}


@pytest.fixture
def online(features: Features) -> Features:
    features.apply(view(rows(**BASE)), service())
    features.materialize("acc")
    return features


def test_what_is_the_same_is_not_told(online: Features) -> None:
    assert skew(online) == []


def test_a_service_that_is_not_online_is_not_looked_at(features: Features) -> None:
    features.apply(view(rows(**BASE)), service())
    assert "nothing of it is online" in features.check("s").skipped["skew"]


def test_a_newer_row_that_was_not_materialized_is_late(online: Features) -> None:
    online.apply(view(rows(who=["a", "b", "b", "c"], hours=[5, 5, 1, 1], x=[1.0, 2.0, 3.0, 4.0], n=[1, 2, 2, 4])))
    (found,) = skew(online)
    assert found.figures["kind"] == "late"
    assert found.detail == "late: 2 of 3 entities have newer rows than those online (x, n)."
    assert found.remedy == "Run %features materialize acc."
    (b,) = [e for e in found.figures["examples"] if e["who"] == "b"]
    assert (b["x"], "n" in b) == ([3.0, 2.0], False)
    online.materialize("acc")
    assert skew(online) == []


def test_an_entity_that_was_passed_by_is_missing_online(online: Features) -> None:
    online.apply(view(rows(who=["a", "b", "c"], hours=[5, 5, 6], x=[1.0, 2.0, 4.0], n=[1, 2, 4])))
    assert kinds(online) == {"missing online": 1}


def test_an_entity_that_only_the_store_has_is_missing_offline(online: Features) -> None:
    source = rows(**BASE)
    online.apply(view(source.iloc[:1]))
    assert kinds(online, against=source[["who", "at"]])["missing offline"] == 1


def test_a_value_that_was_rewritten_is_told_with_both(online: Features) -> None:
    stored = pd.read_parquet(online.registry.file(online.show("acc")))
    online.apply(view(stored.assign(x=[1.0, 99.0])))
    (found,) = skew(online)
    assert (found.figures["kind"], found.figures["examples"][0]["x"]) == ("rewritten", [99.0, 2.0])


def test_a_personal_value_is_not_shown(online: Features) -> None:
    stored = pd.read_parquet(online.registry.file(online.show("acc")))
    online.apply(view(stored.assign(x=[1.0, 99.0]), features=[themisto.Feature("x", personal=True), "n"]))
    (found,) = skew(online)
    assert "x" not in found.figures["examples"][0]


def test_a_row_that_holds_no_more_is_expired(features: Features) -> None:
    features.apply(view(rows(**BASE), ttl="2h"), service())
    features.materialize("acc")
    assert kinds(features) == {"expired": 2}
    features.apply(service(max_age="2h"))
    assert kinds(features) == {}


def test_a_row_that_the_store_let_go_is_expired(features: Features) -> None:
    features.apply(view(rows(**BASE)), service(max_age="2h"))
    features.materialize("acc")
    assert kinds(features) == {"expired": 2}


def test_a_value_of_another_type_in_the_store_is_told(online: Features) -> None:
    registered = online.show("acc")
    table = OnlineTable.of(registered.view, "")
    store = online.registry._store
    row = store.read(table, ["a"])[0]
    with store._writing:
        store._writer.execute(f"UPDATE \"{table.name}\" SET n = 'one' WHERE key_ = ?", (row[0],))
    assert kinds(online) == {"type": 1}


def test_a_default_in_place_of_nothing_is_no_difference(features: Features) -> None:
    source = rows(who=["a", "b"], hours=[5, 5], x=[None, 2.0])
    features.apply(view(source), service(on_missing="default", defaults={"x": -1.0}))
    features.materialize("acc")
    assert kinds(features) == {}


def test_the_sample_is_as_large_as_asked_and_the_same_for_a_seed(features: Features) -> None:
    source = rows(who=[f"w{i}" for i in range(50)], hours=[5] * 50, x=[1.0] * 50)
    features.apply(view(source), service())
    features.materialize("acc")
    stored = pd.read_parquet(features.registry.file(features.show("acc")))
    features.apply(view(stored.assign(x=2.0)))
    one, again, other = (skew(features, sample=10, seed=s)[0].figures for s in (1, 1, 2))
    assert one["of"] == 10
    assert one == again != other


def test_a_sample_is_read_in_parts(features: Features) -> None:
    source = rows(who=[f"w{i}" for i in range(250)], hours=[5] * 250, x=[float(i) for i in range(250)])
    features.apply(view(source), service())
    features.materialize("acc")
    assert kinds(features, sample=250) == {}
    stored = pd.read_parquet(features.registry.file(features.show("acc")))
    features.apply(view(stored.assign(x=-1.0)))
    assert kinds(features, sample=250) == {"rewritten": 250}


def test_views_of_several_keys_are_looked_at_together(features: Features) -> None:
    pair = themisto.Entity("pair", keys=["who", "shop"])
    second = themisto.FeatureView(
        "pays", entity=pair, at="at", source=rows(who=["a", "b"], shop=[1, 2], hours=[5, 5], y=[1.0, 2.0])
    )
    features.apply(view(rows(**BASE)), second, themisto.FeatureService("s", features=["acc", "pays"]))
    features.materialize("acc")
    features.materialize("pays")
    assert skew(features) == []
    stored = pd.read_parquet(features.registry.file(features.show("pays")))
    features.apply(themisto.FeatureView("pays", entity=pair, at="at", source=stored.assign(y=[1.0, 3.0])))
    (found,) = skew(features)
    assert (found.subject, found.figures["examples"][0]["shop"]) == ("pays", 2)
