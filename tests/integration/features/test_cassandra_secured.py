"""Cassandra behind TLS and a password, as a bank runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.integration.features.cassandra.node import CassandraRing

from themisto.errors import Refused, Unavailable
from themisto.features.models import Column
from themisto.features.online import OnlineTable, open_store

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("THEMISTO_TEST_CASSANDRA") != "start", reason="THEMISTO_TEST_CASSANDRA is not 'start'"
    ),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraRing]:
    with CassandraRing(tmp_path_factory.mktemp("secured"), secured=True) as started:
        yield started


def with_user(url: str, user: str) -> str:
    return url.replace("cassandra://", f"cassandra://{user}@")


def test_rows_go_through_tls_with_a_password_from_a_file(node: CassandraRing) -> None:
    url = node.url(tls="true", ca=node.ca, password_file=node.password_file)
    store = open_store(with_user(url, "cassandra"))
    table = OnlineTable(name="t", columns=(Column(name="x", dtype="int64"),))
    store.ensure(table)
    store.write(table, [("a", 1, 1, 7)])
    assert store.read(table, ["a"]) == [("a", 1, 1, 7)]
    store.close()


def test_a_wrong_password_is_refused_and_not_repeated(node: CassandraRing) -> None:
    with pytest.raises(Refused, match="user or the password") as told:
        open_store(with_user(node.url(tls="true", ca=node.ca), "cassandra:open-sesame"))
    assert "open-sesame" not in str(told.value)


def test_without_tls_or_its_authority_nothing_is_sent(node: CassandraRing) -> None:
    for options in ({}, {"tls": "true"}):
        with pytest.raises(Unavailable):
            open_store(with_user(node.url(timeout_s=5, **options), "cassandra:cassandra"))
