"""On-demand features: the same expression for training rows, for reads and for predictions."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import themisto
from themisto.errors import Invalid, Unavailable
from themisto.features.on_demand import Expressions, OnDemand, check_on_demand
from themisto.features.resolve import resolve
from themisto.features.service import Features
from themisto_hub.gateway.feature_book import FeatureBook
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_reads import FeatureReads

RATIO = OnDemand("ratio", "amount / avg_amount", request={"amount": "float64"})
VIEW = themisto.FeatureView(
    "usual",
    entity=themisto.Entity("customer", keys=["id"]),
    at="at",
    features={
        "avg_amount": "float64",
        "seen": "timestamp",
        "limit_eur": "decimal",
        "home": "string",
        "vector": "list[float64]",
        "small": "int32",
    },
).with_version(1)


def spec_of(*on_demand: OnDemand, **more):
    service = themisto.FeatureService("s", features=["usual"], on_demand=on_demand, **more)
    spec = resolve(service, lambda _: VIEW, version=1)
    check_on_demand(spec)
    return spec


@pytest.fixture
def scoring(features: Features) -> Features:
    now = pd.Timestamp.now(tz="UTC").floor("h")
    rows = pd.DataFrame({"id": [1, 2], "at": [now, now], "avg_amount": [10.0, None]})
    view = themisto.FeatureView("usual", entity=themisto.Entity("customer", keys=["id"]), at="at", source=rows)
    features.apply(view, themisto.FeatureService("scoring", features=["usual"], on_demand=[RATIO]))
    features.materialize("usual")
    return features


def test_training_rows_have_what_a_read_has(scoring: Features) -> None:
    spine = pd.DataFrame({"id": [1, 2, 9], "at": [pd.Timestamp.now(tz="UTC")] * 3, "amount": [25.0, 1.0, 1.0]})
    joined = scoring.historical(spine, "scoring")
    read = scoring.get("scoring", id=[1, 2, 9], amount=[25.0, 1.0, 1.0])
    assert joined["ratio"].fillna(-1).tolist() == read["ratio"].fillna(-1).tolist() == [2.5, -1, -1]
    assert list(joined.columns) == ["id", "at", "amount", "avg_amount", "ratio"]


def test_read_by_key_alone_has_the_stored_features(scoring: Features) -> None:
    assert list(scoring.get("scoring", id=1).columns) == ["id", "avg_amount", "event_time"]


def test_training_rows_without_the_request_column_are_told(scoring: Features) -> None:
    spine = pd.DataFrame({"id": [1], "at": [pd.Timestamp.now(tz="UTC")]})
    with pytest.raises(Invalid, match="no column amount"):
        scoring.historical(spine, "scoring")
    with pytest.raises(Invalid, match=r"'amount' is .*string, not float64"):
        scoring.historical(spine.assign(amount="much"), "scoring")
    with pytest.raises(Invalid, match="already have ratio"):
        scoring.historical(spine.assign(amount=1.0, ratio=1.0), "scoring")


MANY = spec_of(
    RATIO,
    OnDemand("days", "floor(epoch(seen) / 86400)", dtype="int64"),
    OnDemand("later", "seen + INTERVAL 1 DAY", dtype="timestamp"),
    OnDemand("left", "limit_eur / 3", dtype="decimal"),
    OnDemand("abroad", "home <> 'KR'", dtype="bool"),
    OnDemand("word", "upper(home) || coalesce(amount::INT, 0)", dtype="string", request={"amount": "float64"}),
    OnDemand("length", "len(vector)", dtype="int32"),
    OnDemand("unfit", "'no number'", dtype="int32"),
    OnDemand("doubled", "[x * 2 for x in vector]", dtype="list[float64]"),
)

numbers = st.one_of(st.none(), st.floats(-1e9, 1e9))
moments = st.one_of(st.none(), st.integers(0, 4 * 10**15))
decimals = st.one_of(st.none(), st.decimals(-(10**12), 10**12, places=9))
texts = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5))
vectors = st.one_of(st.none(), st.lists(st.floats(-10, 10), max_size=3))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(numbers, moments, decimals, texts, vectors, numbers), min_size=1, max_size=5),
)
def test_table_and_rows_are_computed_alike(rows) -> None:
    import pyarrow as pa

    from themisto.features.dtypes import arrow_type

    stored = [[*r[:5], 7] for r in rows]
    amounts = [r[5] for r in rows]
    expressions = Expressions(MANY)
    online = [row[len(MANY.columns) :] for row in expressions.of_rows(stored, {"amount": amounts})]
    columns = {c.name: pa.array([row[i] for row in stored], arrow_type(c.dtype)) for i, c in enumerate(MANY.columns)}
    offline = expressions.of_table(pa.table(columns | {"amount": pa.array(amounts, pa.float64())}))
    later = offline["later"].cast(pa.int64())
    table = [c.to_pylist() for c in offline.set_column(2, "later", later).columns]
    assert list(map(repr, map(list, zip(*table, strict=True)))) == list(map(repr, online))


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        (OnDemand("x", "avg_amount / nothing"), "nothing"),
        (OnDemand("x", "sum(avg_amount)"), "one row at a time"),
        (OnDemand("x", "row_number() OVER ()"), "one row at a time"),
        (OnDemand("x", "(SELECT max(avg_amount) FROM given)"), "one row at a time"),
        (OnDemand("x", "random()"), "random"),
        (OnDemand("x", "current_timestamp"), "current_timestamp"),
        (OnDemand("x", "hour(current_localtime())"), "current_localtime"),
        (OnDemand("x", "epoch(LOCALTIMESTAMP)"), "localtimestamp"),
        (OnDemand("x", "1) AS DOUBLE), TRY_CAST((2"), "not one expression"),
        (OnDemand("x", "1; SELECT 2"), "does not run"),
        (OnDemand("x", "repeat('x', 10000000000)", dtype="string"), "does not run"),
        (OnDemand("x", "list_sum(range(10000000000))"), "does not run"),
        (OnDemand("x", "read_text('/etc/passwd')"), "does not run"),
        (OnDemand("id", "1"), "id is the name of two things"),
        (OnDemand("avg_amount", "1"), "avg_amount is the name of two things"),
        (OnDemand("x", "amount", request={"avg_amount": "float64"}), "avg_amount is the name of two things"),
    ],
)
def test_what_is_no_expression_is_one_sentence(feature: OnDemand, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        spec_of(feature)


def test_service_with_a_wrong_expression_is_not_registered(scoring: Features) -> None:
    wrong = themisto.FeatureService("other", features=["usual"], on_demand=[OnDemand("x", "sum(avg_amount)")])
    with pytest.raises(Invalid, match="one row at a time"):
        scoring.apply(wrong)
    assert [s.name for s in scoring.list()[1]] == ["scoring"]


def test_column_may_begin_as_a_clock_does() -> None:
    spec = spec_of(OnDemand("x", "current_balance / 2", request={"current_balance": "float64"}))
    row = [1.0, 0, Decimal(1), "", [], 1]
    assert Expressions(spec).of_rows([row], {"current_balance": [3.0]})[0][-1] == 1.5


def test_request_column_has_one_type() -> None:
    other = OnDemand("y", "amount", request={"amount": "int64"})
    with pytest.raises(Invalid, match="'amount' is float64 for one"):
        spec_of(RATIO, other)


def test_changed_expression_is_another_version() -> None:
    service = themisto.FeatureService("s", features=["usual"], on_demand=[RATIO])
    assert themisto.FeatureService.model_validate_json(service.model_dump_json()) == service
    from themisto.features.resolve import changed

    assert changed(spec_of(RATIO), spec_of(RATIO.model_copy(update={"expression": "amount * avg_amount"})))
    assert not changed(spec_of(RATIO), spec_of(RATIO.model_copy(update={"description": "how unusual"})))


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "no input amount"),
        ({"amount": [1.0, 2.0]}, "2 values for 1 rows"),
        ({"amount": ["much"]}, "'amount' is float64"),
        ({"amount": [True]}, "'amount' is float64"),
    ],
)
def test_request_that_does_not_fit_is_told(request_: dict, says: str) -> None:
    row = [1.0, 0, Decimal(1), "", [], 1]
    with pytest.raises(Invalid, match=says):
        Expressions(spec_of(RATIO)).of_rows([row], request_)


def test_gateway_stops_what_does_not_end(tmp_path: Path) -> None:
    spec = spec_of(OnDemand("x", "list_sum([y % 7 for y in range(small)])"))
    book = Watched(tmp_path / "none", FeatureBook.model_validate_json, FeatureBook(jwks={}, issuers=()))
    reads = FeatureReads(None, book, deadline_s=0.3)
    from themisto.features.reading import Found

    def found(size: int) -> Found:
        row = [1.0, 0, Decimal(1), "", [], size]
        return Found.model_construct(rows=[row], event_times=[None], incomplete=())

    async def both() -> list:
        with pytest.raises(Unavailable, match="took over 300 ms"):
            await reads.compute(spec, found(30_000_000), {})
        return (await reads.compute(spec, found(3), {}, within_s=0.3)).rows

    assert asyncio.run(both())[0][-1] == 3.0
    reads._threads.shutdown(wait=True)
