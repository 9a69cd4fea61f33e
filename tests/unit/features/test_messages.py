"""Messages of a topic as rows of a view: what fits goes on, the rest is told with its place and the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid, MissingSetting
from themisto.features.messages import Message, decode
from themisto.features.service import Features
from themisto.features.windows import MAX_EVENTS
from themisto.settings import Settings
from themisto_hub.feature_streams import consumer

FLOAT = {"x": "float64"}
WHO = themisto.Entity("customer", keys=["who"])
GOOD = {"who": "a", "at": "2024-01-01T00:00:00Z"}


def view(features: Any = FLOAT, **more: Any) -> themisto.FeatureView:
    given = {"features": features, "stream": "payments", "at": "at"} | more
    return themisto.FeatureView("v", entity=WHO, **given)


def messages(*values: Any) -> list[Message]:
    encoded = [v if v is None or isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    return [Message(0, number, value) for number, value in enumerate(encoded)]


def reasons(made: themisto.FeatureView, *values: Any) -> dict[int, str]:
    return {p.offset: p.reason for p in decode(made, messages(*values)).poison}


def only(made: themisto.FeatureView, value: Any) -> dict[str, Any]:
    decoded = decode(made, messages(value))
    assert not decoded.poison
    (row,) = decoded.rows.to_pylist()
    return row


@pytest.mark.parametrize(
    ("dtype", "given", "kept"),
    [
        ("float64", 1, 1.0),
        ("float32", 1.5, 1.5),
        ("int64", 2**63 - 1, 2**63 - 1),
        ("bool", True, True),
        ("string", "", ""),
        ("decimal", 1.1, Decimal("1.100000000")),
        ("decimal", "12345678901234567890.123456789", Decimal("12345678901234567890.123456789")),
        ("timestamp", "1969-12-31T23:59:59+01:00", datetime(1969, 12, 31, 22, 59, 59, tzinfo=UTC)),
        ("timestamp", "2300-01-01", datetime(2300, 1, 1, tzinfo=UTC)),
        ("list[float64]", [1, 2.5], [1.0, 2.5]),
        ("float64", None, None),
    ],
)
def test_value_is_kept_as_its_column_says(dtype: str, given: Any, kept: Any) -> None:
    assert only(view({"x": dtype}), GOOD | {"x": given})["x"] == kept


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float64", "1"),
        ("float64", True),
        ("float32", 1e39),
        ("int32", 2**31),
        ("int64", 2**63),
        ("int64", 1.5),
        ("int64", True),
        ("bool", 1),
        ("string", 5),
        ("string", "\ud800"),
        ("decimal", "1.0000000001"),
        ("decimal", "1e29"),
        ("decimal", "nan"),
        ("decimal", True),
        ("timestamp", 5),
        ("timestamp", "soon"),
        ("list[int64]", [1.5]),
        ("list[float64]", [None]),
        ("list[float64]", 1.0),
        ("string", {"a": 1}),
    ],
)
def test_value_that_does_not_fit_is_told_without_itself(dtype: str, given: Any) -> None:
    (reason,) = reasons(view({"x": dtype}), GOOD | {"x": given}).values()
    assert reason.startswith("'x' is ")
    assert reason.endswith(dtype if dtype != "timestamp" else "timestamp (iso)")
    assert json.dumps(given).strip('"') not in reason.replace("true or false", "").removesuffix(dtype)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it has no value"),
        (b"", "it is no JSON"),
        (b"\xff", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b'{"who": "a", "at": "2024-01-01", "x": NaN}', "it is no JSON"),
        (b'{"who": "a", "at": "2024-01-01", "x": 1e999}', "'x' is a number that is not of float64"),
        ([1], "it is a list, not an object"),
        (b"null", "it is null, not an object"),
        ({"at": "2024-01-01"}, "'who' is empty"),
        ({"who": "a"}, "'at' is empty"),
        ({"who": "", "at": "2024-01-01"}, "'who' is empty text, which is nobody's key"),
    ],
)
def test_message_that_is_no_row_stops_no_other(value: Any, reason: str) -> None:
    decoded = decode(view(), messages(GOOD | {"x": 1}, value, GOOD | {"x": 2}))
    assert [(p.partition, p.offset, p.reason) for p in decoded.poison] == [(0, 1, reason)]
    assert decoded.rows["x"].to_pylist() == [1.0, 2.0]


@pytest.mark.parametrize(("times", "given"), [("s", 1704067200), ("ms", 1704067200000), ("us", 1704067200000000)])
def test_times_may_be_numbers(times: str, given: int) -> None:
    made = view(stream=themisto.Topic("payments", times=times))
    assert only(made, {"who": "a", "at": given, "x": 1})["at"] == datetime(2024, 1, 1, tzinfo=UTC)
    enormous = json.dumps({"who": "a", "x": 1}).encode()[:-1] + b', "at": 1e999999999}'
    assert reasons(made, GOOD, enormous).keys() == {0, 1}


def test_of_different_events_of_one_name_the_first_counts() -> None:
    made = view(aggregates=[themisto.Aggregate("x", "sum", over="1h")], every="5m", sequence="n")
    one = GOOD | {"x": 1.0, "n": 1}
    decoded = decode(made, messages(one, one | {"x": 2.0}, one, one | {"n": 2}))
    assert [(p.offset, p.reason) for p in decoded.poison] == [
        (1, "another event of the same who, at, n came before it")
    ]
    assert decoded.rows["x"].to_pylist() == [1.0, 1.0, 1.0]
    assert reasons(made, GOOD | {"x": 1.0}) == {0: "'n' is empty"}


def test_batch_has_fewer_messages_than_a_bucket_holds_events() -> None:
    assert consumer._MOST < MAX_EVENTS


SAMPLE = pd.DataFrame({"who": ["a"], "at": pd.to_datetime(["2024-01-01"], utc=True), "raw": ["1"]})


def test_transform_runs_and_what_it_cannot_take_is_found() -> None:
    made = view(
        features=None, source=SAMPLE, transform="SELECT who, \"at\", raw::INT AS x FROM source WHERE raw <> 'leave out'"
    )
    rows = [GOOD | {"raw": raw} for raw in ("1", "two", "leave out", "3", "four")]
    decoded = decode(made, messages(*rows))
    assert decoded.rows["x"].to_pylist() == [1, 3]
    told = "the transform of 'v' does not run on it"
    assert [(p.offset, p.reason) for p in decoded.poison] == [(1, told), (4, told)]


def test_topic_makes_a_version_and_its_absence_none() -> None:
    plain, streamed = view(stream=None), view()
    assert plain.content_hash() != streamed.content_hash()
    assert streamed.content_hash() != view(stream=themisto.Topic("payments", start="latest")).content_hash()
    assert themisto.FeatureView(**streamed.model_dump(mode="json")) == streamed


@pytest.mark.parametrize("name", ["", "pay ments", "a/b", ".", "x" * 250])
def test_name_that_is_none_of_kafka_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        view(stream=themisto.Topic(name))


def test_python_and_untyped_transforms_are_refused() -> None:
    def double(frame):
        return frame

    with pytest.raises(Invalid, match="not transformed by Python"):
        view(features=None, source=SAMPLE, transform=double)
    with pytest.raises(Invalid, match="types of its messages are not known"):
        view(transform='SELECT who, "at", x FROM source')


def test_without_a_workbench_nobody_reads_a_topic(tmp_path) -> None:
    with pytest.raises(MissingSetting, match="nobody reads topics"):
        Features(Settings(url=None, home=tmp_path), None).apply(view())
