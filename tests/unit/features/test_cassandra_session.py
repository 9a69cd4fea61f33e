"""Which node is asked, and which next: with the driver's own classes, and pools that are counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from cassandra import OperationTimedOut, ReadTimeout
from cassandra import Unavailable as TooFew
from cassandra.cluster import NoHostAvailable
from cassandra.connection import DefaultEndPoint
from cassandra.policies import HostDistance, LoadBalancingPolicy, SimpleConvictionPolicy
from cassandra.pool import Host

from themisto.features.cassandra_session import _AskAnother, _LeastBusyFirst, as_ours

HOSTS = [Host(DefaultEndPoint(f"10.0.0.{n}"), SimpleConvictionPolicy) for n in range(1, 6)]


class InOrder(LoadBalancingPolicy):
    """Which of the nodes begins is not left to chance here: the first."""

    def populate(self, _cluster, hosts) -> None:
        self.hosts = hosts

    def make_query_plan(self, *_):
        return iter(self.hosts)

    def distance(self, _host):
        return HostDistance.LOCAL


def balancing(*under_way: int | None) -> _LeastBusyFirst:
    """Of a cluster that has so many requests under way at each of its nodes; None: no connection to it."""
    hosts = HOSTS[: len(under_way)]
    pools = [
        SimpleNamespace(
            host=host, open_count=int(n is not None), get_connections=lambda n=n: [SimpleNamespace(in_flight=n)]
        )
        for host, n in zip(hosts, under_way, strict=True)
    ]
    cluster = SimpleNamespace(metadata=None, sessions=[SimpleNamespace(get_pools=lambda: pools)])
    made = _LeastBusyFirst(InOrder())
    made.populate(cluster, hosts)
    return made


def names(policy: _LeastBusyFirst) -> str:
    return " ".join(host.address.rpartition(".")[2] for host in policy.make_query_plan())


@pytest.mark.parametrize(
    ("under_way", "plan"),
    [
        ((0,), "1 1"),
        ((2, 0), "2 1 2 1"),
        ((1, 1, 1), "1 2 3 1 2 3"),
        ((9, 3, 1), "3 2 1 3 2 1"),
        ((0, None, 0), "1 3 2 1 3 2"),
        ((5, 5, 4, 0, 0), "3 1 2 4 5 3 1 2 4 5"),  # of the three whose turn it is
    ],
)
def test_the_node_with_the_fewest_requests_is_asked_first_and_each_comes_twice(under_way, plan) -> None:
    assert names(balancing(*under_way)) == plan


@pytest.mark.parametrize(
    ("under_way", "delays"),
    [((0,), [-1]), ((0, 0), [0.02, -1]), ((0, 0, 0), [0.02, 2.5, -1]), ((0, None, None), [-1]), ((None,), [-1])],
)
def test_another_node_is_asked_as_often_as_there_is_another(under_way, delays) -> None:
    plan = _AskAnother(balancing(*under_way), 0.02, 2.5).new_plan("themisto", None)
    assert [plan.next_execution(None) for _ in delays] == delays


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ({"a": TooFew("", required_replicas=2, alive_replicas=1), "b": OSError()}, "1 of the 2 replicas alive"),
        ({"a": OSError(), "b": ReadTimeout("")}, "does not answer in time"),
        ({"a": OperationTimedOut()}, "does not answer in time"),
        ({"a": OSError("refused")}, "No node of the online store can be reached"),
    ],
)
def test_what_several_nodes_said_is_one_sentence(errors, told) -> None:
    assert told in str(as_ours(NoHostAvailable("Unable to complete", errors)))
