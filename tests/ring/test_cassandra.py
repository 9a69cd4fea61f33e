"""Three Cassandra nodes with a copy on each: one hangs or is killed under load, and nobody notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.integration.features.cassandra.node import CassandraRing

from themisto.errors import Conflict, Refused, Unavailable
from themisto.features.models import Column, Online
from themisto.features.online import OnlineStore, OnlineTable, Row, open_store

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraRing]:
    with CassandraRing(tmp_path_factory.mktemp("ring"), nodes=3) as started:
        yield started


@pytest.fixture
def store(ring: CassandraRing) -> Iterator[OnlineStore]:
    opened = open_store(ring.url())
    yield opened
    opened.close()


@pytest.fixture
def table(store: OnlineStore) -> OnlineTable:
    made = OnlineTable(name=f"t{time.time_ns()}", columns=(Column(name="x", dtype="int64"),))
    store.ensure(made)
    return made


def until(true: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def answers(store: OnlineStore, table: OnlineTable, key: str) -> list[Row | None] | None:
    """None while too few of those that are needed are there, or known to be back."""
    try:
        return store.read(table, [key])
    except Unavailable:
        return None


def test_a_push_is_read_at_once_by_another_session_and_coordinator(ring: CassandraRing, table: OnlineTable) -> None:
    stores = [open_store(f"cassandra://{n.address}:{ring.port}/themisto?dc=datacenter1") for n in ring.nodes]
    try:
        for i in range(1, 301):
            writer, reader = stores[i % 3], stores[(i + 1) % 3]
            writer.write(table, [("a", i, i, i)])
            assert reader.read(table, ["a"]) == [("a", i, i, i)]
    finally:
        for opened in stores:
            opened.close()


def test_features_are_added_by_many_at_once_and_none_is_dropped(
    ring: CassandraRing, store: OnlineStore, table: OnlineTable
) -> None:
    table = table.model_copy(update={"online": Online(keep=2)})
    store.write(table, [("a", 1, 1, 7)])
    wider = table.model_copy(
        update={"columns": (Column(name="y", dtype="string"), Column(name="z", dtype="list[float32]"))}
    )
    others = [open_store(ring.url()) for _ in range(3)]
    failures: list[BaseException] = []

    def ensure(opened: OnlineStore) -> None:
        try:
            opened.ensure(wider)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ensure, args=(opened,)) for opened in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for opened in others:
        opened.close()
    assert not failures
    store.write(wider, [("a", 2, 2, "new", [0.5])])
    assert store.read(wider, ["a"]) == [("a", 2, 2, "new", [0.5])]
    assert [row[3] for row in store.history(table, ["a"], 9)[0]] == [None, 7]  # x was not dropped
    with pytest.raises(Conflict, match=r"'x' of .* is bigint .* would become text"):
        store.ensure(table.model_copy(update={"columns": (Column(name="x", dtype="string"),)}))


def test_a_keyspace_of_others_is_refused_and_left_as_it_was(ring: CassandraRing) -> None:
    ring.make_keyspace("theirs")
    with ring.cluster() as cluster, cluster.connect("theirs") as session:
        session.execute("CREATE TABLE accounts (id int PRIMARY KEY)")
    with pytest.raises(Refused, match="'theirs' is not themisto's: it holds accounts"):
        open_store(ring.url("theirs"))
    with ring.cluster() as cluster, cluster.connect() as session:
        rows = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'theirs'")
        assert [row.table_name for row in rows] == ["accounts"]


def test_a_node_that_hangs_is_left_alone_and_no_read_or_write_fails(
    ring: CassandraRing, store: OnlineStore, table: OnlineTable
) -> None:
    keys = [f"k{i}" for i in range(100)]
    store.write(table, [(key, 1, 1, 0) for key in keys])
    ring.nodes[1].pause(stop=True)  # its connections stay open: nothing says that it is gone
    try:
        for at in range(2, 202):
            store.write(table, [(key, at, at, at) for key in keys[:20]])
            assert store.read(table, keys)[:20] == [(key, at, at, at) for key in keys[:20]]
    finally:
        ring.nodes[1].pause(stop=False)
    everywhere = table.model_copy(update={"online": Online(consistency="ALL")})
    until(lambda: answers(store, everywhere, "k0") == [("k0", 201, 201, 201)])


def test_a_node_is_killed_under_load_and_no_read_or_write_fails(
    ring: CassandraRing, store: OnlineStore, table: OnlineTable
) -> None:
    keys = [f"k{i}" for i in range(100)]
    store.write(table, [(key, 1, 1, 0) for key in keys])
    failures: list[BaseException] = []
    done = [0, 0]
    stop = threading.Event()

    def write() -> None:
        at = 1
        while not stop.is_set():
            at += 1
            try:
                store.write(table, [(key, at, at, at) for key in keys[:20]])
                done[0] += 1
            except BaseException as error:
                failures.append(error)

    def read() -> None:
        while not stop.is_set():
            try:
                assert all(store.read(table, keys))
                done[1] += 1
            except BaseException as error:
                failures.append(error)

    def more(by: int) -> Callable[[], bool]:
        goal = [n + by for n in done]
        return lambda: bool(failures) or all(n >= g for n, g in zip(done, goal, strict=True))

    killed = ring.nodes[2]
    threads = [threading.Thread(target=work) for work in (write, read, read)]
    for thread in threads:
        thread.start()
    try:
        until(more(200))
        killed.kill()
        until(more(500))
        store.write(table, [("while it was away", 5, 5, 5)])
        killed.start()
        killed.wait()
        until(more(200))
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failures, (len(failures), failures[:3])

    # Every pair of nodes has it: also the two of which one was away.
    everywhere = table.model_copy(update={"online": Online(consistency="ALL")})

    until(lambda: answers(store, everywhere, "while it was away") == [("while it was away", 5, 5, 5)])


def test_two_of_three_nodes_down_is_told(ring: CassandraRing, store: OnlineStore, table: OnlineTable) -> None:
    store.write(table, [("a", 1, 1, 1)])

    for node in ring.nodes[1:]:
        node.kill()
    told = ""

    def known() -> bool:
        nonlocal told
        try:
            store.write(table, [("a", 2, 2, 2)])
        except Unavailable as error:
            told = str(error)
        return "has 1 of the 2 replicas alive" in told

    until(known)  # before the one that is left knows it, it waits for the others
    assert "nodetool status" in told
    assert answers(store, table, "a") is None
