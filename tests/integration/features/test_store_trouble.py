"""A Cassandra that is slow, silent, away, or not ours: what readers and writers are told, and how they go on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pandas as pd
import pytest
from tests.integration.features.conftest import Bench, wait_until
from tests.integration.features.proxy import Proxy

import themisto
from themisto.errors import Conflict, NotFound, Unavailable
from themisto.features.models import Column
from themisto.features.online import OnlineStore, OnlineTable, open_store
from themisto.features.service import Features

pytestmark = pytest.mark.timeout(180)

NOW = pd.Timestamp.now(tz="UTC").floor("s")
MANY = 20_000


@pytest.fixture(scope="module")
def proxy(cassandra_url: str) -> Iterator[Proxy]:
    to = urlsplit(cassandra_url)
    with Proxy((to.hostname or "", to.port or 9042)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def url(cassandra_url: str, proxy: Proxy) -> str:
    """The node by way of the proxy; a request has 2 s."""
    parts = urlsplit(cassandra_url)
    return f"cassandra://127.0.0.1:{proxy.port}{parts.path}?{parts.query}&timeout_s=2"


@pytest.fixture
def store(url: str, proxy: Proxy) -> Iterator[OnlineStore]:
    opened = open_store(url)
    yield opened
    proxy.mend()
    opened.close()


@pytest.fixture
def table(store: OnlineStore) -> OnlineTable:
    made = OnlineTable(name=f"t{time.time_ns()}", columns=(Column(name="x", dtype="int64"),))
    store.ensure(made)
    store.write(made, [("old", 1, 1, 7)])
    store.read(made, ["old"])
    return made


def test_a_slow_node_is_told_within_the_requests_time_and_read_afterwards(store, table, proxy) -> None:
    proxy.delay_s = 5
    began = time.monotonic()
    for ask in (lambda: store.read(table, ["old"]), lambda: store.write(table, [("new", 1, 1, 8)])):
        with pytest.raises(Unavailable, match="does not answer in time") as told:
            ask()
        assert told.value.remedy == "See its nodes' load (nodetool tpstats)."
    assert time.monotonic() - began < 4.9
    proxy.mend()
    again_within(30, lambda: store.read(table, ["old"]) == [("old", 1, 1, 7)])


def test_a_writer_that_was_cut_off_goes_on_by_writing_again(store, table, proxy) -> None:
    rows = [(f"k{n}", 1, 1, n) for n in range(MANY)]
    proxy.cut_after = 300_000
    with pytest.raises(Unavailable, match="No node of the online store can be reached") as told:
        store.write(table, rows)
    assert told.value.remedy == "See that its nodes run and its URL names them."
    assert proxy.is_cut
    with pytest.raises(Unavailable):
        store.read(table, ["old"])
    proxy.mend()
    again_within(30, lambda: store.write(table, rows) == MANY)
    assert store.read(table, ["old", "k0", f"k{MANY - 1}"]) == [("old", 1, 1, 7), rows[0], rows[-1]]


def test_a_table_of_others_in_our_keyspace_is_told_and_left_as_it_was(store: OnlineStore) -> None:
    name = f"t{time.time_ns()}"
    store._session.execute(f'CREATE TABLE "{name}" (account text PRIMARY KEY, owner text)')
    with pytest.raises(Conflict, match=f"a table {name} that is not themisto's") as told:
        store.ensure(OnlineTable(name=name, columns=(Column(name="x", dtype="int64"),)))
    assert told.value.remedy == "Give the online store a keyspace of its own."
    columns = store._session.execute(
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = 'themisto' AND table_name = %s", (name,)
    )
    assert {row[0] for row in columns} == {"account", "owner"}


def test_a_column_of_another_type_is_told_and_left_as_it_was(store: OnlineStore, table: OnlineTable) -> None:
    other = OnlineTable(name=table.name, columns=(Column(name="new", dtype="int64"), Column(name="x", dtype="string")))
    with pytest.raises(Conflict, match=f"'x' of {table.name} is bigint in the online store, and would become text"):
        store.ensure(other)
    assert store.read(table, ["old"]) == [("old", 1, 1, 7)]
    with pytest.raises((NotFound, Unavailable)):
        store.read(OnlineTable(name=table.name, columns=other.columns[:1]), ["old"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory, free_base: Callable[[], int], url: str) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("state"), free_base(), online_store=url) as bench:
        yield bench


@pytest.fixture(scope="module")
def features(bench: Bench) -> Features:
    features = bench.features("scientist", ["data-science"])
    rows = pd.DataFrame(
        {"origin": ["JFK", "EWR"], "seen": [NOW - pd.Timedelta("1min"), NOW - pd.Timedelta("1d")], "temp": [3.0, 7.0]}
    )
    airport = themisto.Entity("airport", keys=["origin"])
    sight = themisto.FeatureView("sight", entity=airport, at="seen", ttl="3h", source=rows)
    features.apply(sight, themisto.FeatureService("sights", features=["sight"]))
    features.materialize("sight")
    return features


def asked(bench: Bench, features: Features) -> httpx.Response:
    return httpx.post(
        f"{bench.url}/v2/features/sights@1",
        json={"entities": {"origin": ["JFK", "EWR", "XXX"]}},
        headers={
            "authorization": f"Bearer {features._control.gateway_token()}",
            "themisto-timeout-ms": "400",
        },
        timeout=30,
    )


def well(bench: Bench, features: Features) -> bool:
    answer = asked(bench, features)
    return answer.status_code == 200 and answer.json()["views"]["sight"]["states"] == ["present", "stale", "missing"]


def test_a_slow_store_is_a_504_that_names_the_view_and_afterwards_states_are_as_they_were(
    bench, features, proxy
) -> None:
    assert well(bench, features)
    proxy.delay_s = 1.5
    late = asked(bench, features)
    proxy.mend()
    assert late.status_code == 504
    assert re.search(r"were not read within 400 ms: 'sight' came too late. Try again", late.json()["error"])
    wait_until(lambda: well(bench, features), "the store")


def test_a_store_that_is_away_is_a_503_and_what_is_pushed_meanwhile_comes_online_by_itself(
    bench, features, proxy
) -> None:
    wait_until(lambda: well(bench, features), "the store")
    proxy.cut()
    away = asked(bench, features)
    assert away.status_code == 503
    assert "'sight' cannot be read now: " in away.json()["error"]
    assert "online store" in away.json()["error"]
    fresh = pd.DataFrame({"origin": ["EWR"], "seen": [NOW], "temp": [9.0]})
    assert features.push("sight", fresh).online is False
    proxy.mend()
    wait_until(
        lambda: asked(bench, features).json().get("columns", [{}])[0].get("values") == [3.0, 9.0, None], "the push"
    )


def test_a_materialization_that_was_cut_off_says_why_and_goes_on_where_it_stopped(bench, features, proxy) -> None:
    many = pd.DataFrame({"payer": [f"p{n:06d}" for n in range(MANY)], "at": NOW, "sum": range(MANY)})
    view = themisto.FeatureView("sums", entity=themisto.Entity("payer", keys=["payer"]), at="at", source=many)
    features.apply(view, themisto.FeatureService("paid", features=["sums"]))
    plane = features._control
    proxy.cut_after = 900_000
    run = plane.post("features/views/sums/materialize", {"group": "data-science"})

    def state() -> dict:
        return plane.get(f"features/materializations/{run['id']}")

    wait_until(lambda: proxy.is_cut and state()["state"] == "waiting" and state()["message"], "the cut")
    cut = state()
    assert 0 < cut["rows_written"] < MANY
    assert "online store" in cut["message"]
    proxy.mend()
    seen = [cut["rows_written"]]
    while state()["state"] != "done":
        seen.append(state()["rows_written"])
        time.sleep(0.05)
    assert seen == sorted(seen)
    assert state()["rows_written"] == MANY
    found = features.get("paid", payer=[f"p{n:06d}" for n in range(0, MANY, 97)])
    assert found["sum"].tolist() == list(range(0, MANY, 97))


def again_within(seconds: float, done: Callable[[], bool]) -> None:
    """The driver finds its node again by itself, a second or some after it is back."""

    def tried() -> bool:
        try:
            return done()
        except Unavailable:
            return False

    wait_until(tried, "the node", seconds)
