"""A topic into a view, over a real Kafka: each message has its effect once, online and in the past."""

from __future__ import annotations

import random
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from tests.integration.feature_streams.conftest import GROUP, Bench, metric
from tests.integration.features.conftest import wait_until

import themisto
from themisto.errors import NotFound, Refused
from themisto.features.service import Features
from themisto.types import new_ulid, utcnow

CUSTOMER = themisto.Entity("customer", keys=["who"])


@pytest.fixture
def features(bench: Bench) -> Features:
    return bench.features("streamer", [GROUP])


def name_of() -> str:
    return f"v{new_ulid().lower()}"


def balances(topic: str, name: str, **more: Any) -> themisto.FeatureView:
    given = {"features": {"balance": "float64"}, "at": "at"} | more
    return themisto.FeatureView(name, entity=CUSTOMER, stream=topic, **given)


def apply(features: Features, view: themisto.FeatureView) -> str:
    service = f"s{view.name[1:]}"
    features.apply(view, themisto.FeatureService(service, features=[view.name], on_missing="null"))
    return service


def stream(features: Features, view: str) -> Any:
    return features.show(view).freshness.stream


def until_read(features: Features, view: str, seconds: float = 60) -> None:
    """All there is in the topic has come: nothing waits, and nothing is wrong."""
    wait_until(lambda: (s := stream(features, view)).lag == 0 and not s.problem, "the topic is read", seconds)


def online(features: Features, service: str, *who: str) -> list[Any]:
    column = features.service(service).columns[0].name
    try:
        found = features.get(service, who=list(who))[column]
    except NotFound:  # the stream has not begun
        return []
    return [None if pd.isna(value) else value for value in found]


def past(features: Features, service: str, who: str, *moments: str) -> list[Any]:
    column = features.service(service).columns[0].name
    spine = pd.DataFrame({"who": [who] * len(moments), "at": pd.to_datetime(list(moments), utc=True)})
    return [None if pd.isna(v) else v for v in features.historical(spine, service, at="at")[column]]


def at(who: str, moment: str, balance: Any) -> dict[str, Any]:
    return {"who": who, "at": moment, "balance": balance}


def test_messages_are_read_online_and_are_part_of_the_past(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(), name_of()
    service = apply(features, balances(topic, name))
    bench.send(topic, [at("a", "2024-01-01T00:00:00Z", 1.0), at("b", "2024-01-01T00:00:00Z", 5.0)])
    page = consuming()
    wait_until(lambda: online(features, service, "a", "b") == [1.0, 5.0], "the rows online")
    bench.send(topic, [at("a", "2024-01-05T00:00:00Z", 5.5), at("a", "2024-01-03T00:00:00Z", 3.0)])
    wait_until(lambda: online(features, service, "a") == [5.5], "the newest row")
    until_read(features, name)
    wait_until(
        lambda: past(features, service, "a", "2024-01-02", "2024-01-04", "2024-01-06") == [1.0, 3.0, 5.5], "the merge"
    )
    assert online(features, service, "a") == [5.5], "a late event hides no newer one"
    assert metric(page, "messages_total", f"{GROUP}/{name}") == 4
    assert stream(features, name).reached == datetime(2024, 1, 5, tzinfo=UTC)


def test_what_is_no_row_is_kept_apart_with_its_place_and_stops_nothing(bench: Bench, features: Features, consuming):
    topic, name = bench.topic(1), name_of()
    view = balances(topic, name, expect=[themisto.Expect("balance", between=(0, 100))])
    service = apply(features, view)
    bad = [b"{", None, at("a", "soon", 1.0), at("a", "2024-01-01T00:00:00Z", "much"), b'"text"']
    bench.send(topic, [*bad, at("a", "2024-01-01T00:00:00Z", 7.0), at("a", "2024-01-02T00:00:00Z", -1.0)])
    consuming()
    wait_until(lambda: online(features, service, "a") == [7.0], "the good row")
    until_read(features, name)
    wait_until(lambda: len(features.quarantine(name)) == 6, "the quarantine")
    apart = features.quarantine(name)
    messages = apart[apart["_topic"].notna()].sort_values("_offset")
    assert messages["_reason"].tolist() == [
        "it is no JSON",
        "it has no value",
        "'at' is text that is not of timestamp (iso)",
        "'balance' is text that is not of float64",
        "it is text, not an object",
    ]
    assert messages[["_topic", "_partition", "_offset"]].to_numpy().tolist() == [[topic, 0, n] for n in range(5)]
    assert apart[apart["_topic"].isna()]["_reason"].tolist() == ["balance is not between 0 and 100"]
    assert features.show(name).freshness.quarantined == 6


def test_batch_of_which_no_row_is_as_expected_stops_nothing(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(1), name_of()
    service = apply(features, balances(topic, name, expect=[themisto.Expect("balance", between=(0, 100))]))
    consuming()
    bench.send(topic, [at("a", "2024-01-01T00:00:00Z", -1.0)])
    wait_until(lambda: stream(features, name).reached is not None, "the bad row")
    bench.send(topic, [at("a", "2024-01-02T00:00:00Z", 8.0)])
    wait_until(lambda: online(features, service, "a") == [8.0], "the good row")


def events(seed: int, count: int) -> list[dict[str, Any]]:
    """Payments of the last hours: out of order, late ones among them, a third of them sent twice."""
    chosen = random.Random(seed)
    now = utcnow().replace(microsecond=0)
    made = [
        {
            "who": chosen.choice("abcdefgh"),
            "at": (now - timedelta(seconds=chosen.randrange(3 * 3600))).isoformat(),
            "number": number,
            "amount": chosen.choice([1.5, 20.0, 300.0, None]),
        }
        for number in range(count)
    ]
    sent = made + chosen.sample(made, count // 3)
    chosen.shuffle(sent)
    return sent


def spending(topic: str, name: str) -> themisto.FeatureView:
    return themisto.FeatureView(
        name,
        entity=CUSTOMER,
        at="at",
        features={"amount": "float64"},
        aggregates=[
            themisto.Aggregate("amount", "sum", over="2h"),
            themisto.Aggregate("*", "count", over=["1h", "2h"], name="payments"),
        ],
        every="5m",
        sequence="number",
        stream=topic,
    )


def reference(sent: list[dict[str, Any]], who: str, moment: datetime) -> list[Any]:
    """The same in a few lines: each event once, those in the window that ends with the last whole bucket."""
    end = moment.timestamp() // 300 * 300
    once = {(e["who"], e["at"], e["number"]): e for e in sent if e["who"] == who}.values()

    def within(hours: int) -> list[Any]:
        return [e["amount"] for e in once if end - hours * 3600 <= datetime.fromisoformat(e["at"]).timestamp() < end]

    amounts = [a for a in within(2) if a is not None]
    return [sum(amounts) if amounts else None, len(within(1)), len(within(2))]


def compare(features: Features, name: str, service: str, sent: list[dict[str, Any]]) -> None:
    """Online and offline are as the reference says, as soon as all that was sent is merged."""
    wait_until(lambda: features.show(name).data is not None, "the rows")
    unique = len({(e["who"], e["at"], e["number"]) for e in sent})
    wait_until(lambda: features.show(name).data.rows == unique, "the merge of all rows")
    for _ in range(3):  # a bucket may end between two questions: then they are asked again
        began = utcnow()
        found = features.get(service, who=list("abcdefgh"))
        if began.timestamp() // 300 == utcnow().timestamp() // 300:
            break
    spine = pd.DataFrame({"who": list("abcdefgh"), "at": [began] * 8}).astype({"at": "datetime64[us, UTC]"})
    joined = features.historical(spine, service, at="at")
    columns = [c.name for c in features.service(service).columns]
    for number, who in enumerate("abcdefgh"):
        expected = reference(sent, who, began)
        for frame in (found, joined):
            values = [None if pd.isna(v) else v for v in frame[columns].iloc[number]]
            assert [values[0] or None, *(int(v or 0) for v in values[1:])] == [expected[0], *expected[1:]], who


def test_windows_are_the_same_from_the_topic_online_offline_and_by_hand(bench: Bench, features, consuming) -> None:
    topic, name = bench.topic(), name_of()
    service = apply(features, spending(topic, name))
    sent = events(1, 600)
    consuming()
    bench.send(topic, sent[:300])
    bench.send(topic, sent[300:])
    until_read(features, name)
    compare(features, name, service, sent)


@pytest.mark.timeout(240)
def test_killed_again_and_again_it_loses_nothing_and_brings_nothing_twice(bench: Bench, features, free_base) -> None:
    topic, name = bench.topic(), name_of()
    service = apply(features, spending(topic, name))
    sent = events(2, 3000)
    chosen = random.Random(3)
    position = 0
    try:
        for _ in range(5):
            page = f"http://127.0.0.1:{(port := free_base())}"
            bench.start_consumer(port)
            bench.send(topic, sent[position : position + 800])
            position += 800
            wanted = chosen.randrange(1, 400)
            wait_until(
                lambda p=page, n=wanted: metric(p, "messages_total", f"{GROUP}/{name}") >= n, "some of it is read"
            )
            bench.stop_consumers(signal.SIGKILL)
        bench.start_consumer(free_base())
        bench.send(topic, sent[position:])
        until_read(features, name)
        compare(features, name, service, sent)
    finally:
        bench.stop_consumers()


def test_offsets_that_kafka_has_forgotten_change_nothing(bench: Bench, features: Features, consuming) -> None:
    """Whatever Kafka says of the group: what is on record counts."""
    from confluent_kafka import Consumer, TopicPartition

    topic, name = bench.topic(1), name_of()
    service = apply(features, balances(topic, name))
    bench.send(topic, [at("a", "2024-01-01T00:00:00Z", 1.0), at("a", "2024-01-01T00:00:00Z", 2.0)])
    consuming()
    wait_until(lambda: online(features, service, "a") == [2.0], "the rows online")
    until_read(features, name)
    assert bench.stop_consumers() == [0], "it ends cleanly"
    reader = Consumer({"bootstrap.servers": bench.kafka, "group.id": f"themisto-features.{GROUP}.{name}.v1"})
    reader.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    reader.close()
    page = consuming()
    bench.send(topic, [at("b", "2024-01-01T00:00:00Z", 9.0)])
    wait_until(lambda: online(features, service, "a", "b") == [2.0, 9.0], "the new row")
    assert metric(page, "messages_total", f"{GROUP}/{name}") == 1


def test_two_consumers_share_the_partitions_and_one_takes_over(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(), name_of()
    service = apply(features, spending(topic, name))
    sent = events(4, 900)
    first = consuming()
    bench.send(topic, sent[:500])
    wait_until(lambda: metric(first, "messages_total", f"{GROUP}/{name}") > 0, "the first reads")
    second = consuming()
    bench.send(topic, sent[500:900])
    wait_until(lambda: lag_partitions(second, name) > 0, "the second has partitions", 90)
    wait_until(lambda: lag_partitions(first, name) + lag_partitions(second, name) == 3, "each has its own")
    process = bench.consumers.pop(0)
    process.terminate()
    assert process.wait(30) == 0
    bench.send(topic, sent[900:])
    wait_until(lambda: lag_partitions(second, name) == 3, "the second has all", 90)
    until_read(features, name)
    compare(features, name, service, sent)


def lag_partitions(page: str, name: str) -> int:
    import httpx

    states = httpx.get(f"{page}/healthz", timeout=5, trust_env=False).json()
    return sum(state["partitions"] for state in states if state["name"] == f"{GROUP}/{name}")


def test_online_store_that_is_down_is_told_and_waited_for(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(1), name_of()
    service = apply(features, balances(topic, name))
    consuming()
    bench.send(topic, [at("a", "2024-01-01T00:00:00Z", 1.0)])
    wait_until(lambda: online(features, service, "a") == [1.0], "the row online")
    bench.stop_transformer(signal.SIGKILL)
    try:
        bench.send(topic, [at("a", "2024-01-02T00:00:00Z", 2.0)])
        wait_until(lambda: "online store" in stream(features, name).problem, "it is told")
        bench.send(topic, [at("a", "2024-01-03T00:00:00Z", 3.0)])
    finally:
        bench.start_transformer()
    wait_until(lambda: online(features, service, "a") == [3.0], "all of it")
    until_read(features, name)


def test_control_plane_that_is_away_is_waited_for(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(1), name_of()
    service = apply(features, balances(topic, name))
    consuming()
    bench.send(topic, [at("a", "2024-01-01T00:00:00Z", 1.0)])
    wait_until(lambda: online(features, service, "a") == [1.0], "the row online")
    bench.stop_control()
    try:
        bench.send(topic, [at("a", "2024-01-02T00:00:00Z", 2.0)])
    finally:
        bench.start_control()
    wait_until(lambda: online(features, service, "a") == [2.0], "the row that waited")


def test_kafka_that_is_away_is_told(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(1), name_of()
    apply(features, balances(topic, name))
    consuming(THEMISTO_KAFKA="127.0.0.1:9")
    wait_until(lambda: "Kafka at 127.0.0.1:9 does not answer" in stream(features, name).problem, "it is told")


def test_topic_that_is_not_there_is_told(bench: Bench, features: Features, consuming) -> None:
    name = name_of()
    apply(features, balances("t-nowhere", name))
    consuming()
    wait_until(lambda: "'t-nowhere' cannot be used" in stream(features, name).problem, "it is told")


def test_new_version_reads_its_topic_from_where_it_begins(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(1), name_of()
    apply(features, balances(topic, name))
    bench.send(topic, [at("a", "2024-01-01T00:00:00Z", 1.0) | {"limit": 7}])
    consuming()
    until_read(features, name)
    wider = balances(topic, name, features={"limit": "int64", "balance": "float64"})
    service = apply(features, wider)
    assert features.show(name).view.version == 2
    wait_until(lambda: online(features, service, "a") == [7], "what the topic had for the new version")
    narrow = balances(themisto.Topic(topic, start="latest"), name, features={"limit": "int64"})
    service = apply(features, narrow)
    wait_until(lambda: bench.control.features.streaming.places(GROUP, name, 3) == {0: 1}, "the third begins at the end")
    bench.send(topic, [{"who": "b", "at": "2024-01-01T00:00:00Z", "limit": 8}])
    wait_until(lambda: online(features, service, "a", "b") == [None, 8], "only what came since")


def test_transform_makes_the_rows_on_the_server(bench: Bench, features: Features, consuming) -> None:
    topic, name = bench.topic(1), name_of()
    sample = pd.DataFrame(
        {"who": ["x"], "at": pd.to_datetime(["2023-01-01"], utc=True), "cents": [1], "kind": ["card"], "raw": ["1"]}
    )
    sql = """SELECT who, "at", cents / 100.0::DOUBLE AS balance, raw::BIGINT AS code FROM source WHERE kind = 'card'"""
    view = balances(themisto.Topic(topic, times="ms"), name, features=None, source=sample, transform=sql)
    service = apply(features, view)
    good = {"who": "a", "at": 1704067200000, "cents": 250, "kind": "card", "raw": "5"}
    bench.send(topic, [good | {"raw": "five"}, good, good | {"kind": "cash", "cents": 1}])
    consuming()
    wait_until(lambda: online(features, service, "a") == [2.5], "the row")
    until_read(features, name)
    apart = features.quarantine(name)
    assert apart["_reason"].tolist() == [f"the transform of '{name}' does not run on it"]
    assert apart["_offset"].tolist() == [0]


def test_topic_that_the_group_may_not_read_is_refused_and_on_record(bench: Bench, features: Features) -> None:
    for who, groups, topic in (("streamer", [GROUP], "salaries"), ("stranger", ["elsewhere"], "t-payments")):
        with pytest.raises(Refused, match="may not read the topic"):
            apply(bench.features(who, groups), balances(topic, "secret"))
    reader = bench.features("reader-of-topics", [GROUP], scopes=["custom:themisto:features:read"])
    with pytest.raises(Refused):
        apply(reader, balances("t-payments", "secret"))
    assert "secret" not in {r.view.name for r in features.list()[0]}
    from sqlalchemy import select

    from themisto_hub.control.audit import AuditRow

    with bench.control.db.read() as session:
        query = select(AuditRow).where(AuditRow.action == "feature_stream.attach")
        found = {(row.actor, row.object, row.outcome) for row in session.scalars(query)}
    assert ("streamer", f"feature_view/{GROUP}/secret", "refused") in found
    assert ("stranger", "feature_view/elsewhere/secret", "refused") in found
