"""A session with Cassandra: encrypted, pooled, and with what to do when a node does not answer.

Imports the driver (0.5 s); imported by `cassandra` when a store is opened.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    RequestExecutionException,
    Timeout,
    Unauthorized,
)
from cassandra import Unavailable as TooFew
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    RetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from themisto.errors import Invalid, NotFound, Refused, ThemistoError, Unavailable
from themisto.features.cassandra_settings import CassandraSettings
from themisto.features.online import OnlineTable

__all__ = ["WRITES", "Statements", "as_ours", "connect", "ours"]

WRITES = "writes"
"""The execution profile of statements that change something; the default one is for reads."""

_DRIVERS = (DriverException, RequestExecutionException, NoHostAvailable)
_ATTEMPTS = 2  # beyond the first
_NOT_CONNECTED = 1 << 20
_CANDIDATES = 3  # of how many nodes the least busy one is asked first
_PATIENCE = 0.25  # the part of a request's deadline after which a node that says nothing is taken for lost
_NO_TABLE = re.compile(r"unconfigured table|table .* does not exist", re.IGNORECASE)
_NO_KEYSPACE = re.compile(r"keyspace .* does not exist", re.IGNORECASE)

logging.getLogger("cassandra.cluster").addFilter(lambda record: record.msg != "Error preparing query:")
"""The driver logs with its stack what it raises too; that a view has no rows yet is no error of the store's."""


class _OnAnotherNode:
    """Whatever failed on one node is tried on the next: all our statements carry their timestamp, so that
    doing one twice is doing it once. The request's deadline holds over all attempts."""

    def on_read_timeout(self, _query: Any, consistency: int, *, retry_num: int, **_: Any) -> tuple[int, int | None]:
        return self._next(consistency, retry_num)

    def on_write_timeout(self, _query: Any, consistency: int, *, retry_num: int, **_: Any) -> tuple[int, int | None]:
        return self._next(consistency, retry_num)

    def on_unavailable(self, _query: Any, consistency: int, *, retry_num: int, **_: Any) -> tuple[int, int | None]:
        return self._next(consistency, retry_num)

    def on_request_error(self, _query: Any, consistency: int, *, retry_num: int, **_: Any) -> tuple[int, int | None]:
        return self._next(consistency, retry_num)

    @staticmethod
    def _next(consistency: int, attempt: int) -> tuple[int, int | None]:
        if attempt < _ATTEMPTS:
            return RetryPolicy.RETRY_NEXT_HOST, consistency
        return RetryPolicy.RETHROW, None


class _LeastBusyFirst(TokenAwarePolicy):  # type: ignore[misc]  # the driver has no types
    """Of the replicas, or of three nodes in turn, the one with the fewest requests under way from here is first.

    A node that hangs keeps its requests, so that it is given a few and no more, while to take turns would fill its
    queue for ever: nobody sees that its answers come too late where others answer instead. As the Java driver does
    (https://docs.datastax.com/en/developer/java-driver/4.17/manual/core/load_balancing/index.html).
    All nodes come twice: what failed when another attempt has already gone to the last of them has one left to try.
    """

    def populate(self, cluster: Any, hosts: Any) -> None:
        super().populate(cluster, hosts)
        self._cluster = cluster

    def make_query_plan(self, working_keyspace: str | None = None, query: Any = None) -> Iterator[Any]:
        for _ in range(2):
            plan = iter(super().make_query_plan(working_keyspace, query))
            first = list(islice(plan, _CANDIDATES))
            if len(first) > 1:
                under_way = {p.host: sum(c.in_flight for c in p.get_connections()) for p in self.pools()}
                first.sort(key=lambda host: under_way.get(host, _NOT_CONNECTED))
            yield from first
            yield from plan

    def pools(self) -> list[Any]:
        """Connections to the nodes that can be asked: a pool a node."""
        pools = (pool for session in tuple(self._cluster.sessions) for pool in tuple(session.get_pools()))
        return [pool for pool in pools if pool.open_count]


class _AskAnother:
    """What has no answer after the first of `delays_s` is asked of another node too, and so on, while there is one."""

    def __init__(self, balancing: _LeastBusyFirst, *delays_s: float) -> None:
        self._balancing, self._delays_s = balancing, delays_s

    def new_plan(self, _keyspace: str | None, _statement: Any) -> _Delays:
        others = len(self._balancing.pools()) - 1
        return _Delays(self._delays_s[: max(others, 0)])


class _Delays:
    def __init__(self, delays_s: Sequence[float]) -> None:
        self._left = iter(delays_s)

    def next_execution(self, _host: Any) -> float:
        return next(self._left, -1)


def connect(settings: CassandraSettings) -> tuple[Any, Any]:
    """Cluster and session, its pools open. Raises Unavailable, Refused, NotFound, Invalid."""

    def profile(*delays_s: float) -> ExecutionProfile:
        near = DCAwareRoundRobinPolicy(local_dc=settings.dc) if settings.dc else RoundRobinPolicy()
        balancing = _LeastBusyFirst(near)
        return ExecutionProfile(
            load_balancing_policy=balancing,
            consistency_level=ConsistencyLevel.name_to_value[settings.consistency],
            request_timeout=settings.timeout_s,
            row_factory=tuple_factory,
            retry_policy=_OnAnotherNode(),
            speculative_execution_policy=_AskAnother(balancing, *delays_s),
        )

    lost_s = settings.timeout_s * _PATIENCE
    soon_s = [settings.speculative_ms / 1000] if settings.speculative_ms else []
    password = settings.password.get_secret_value() if settings.password else None
    cluster = Cluster(
        list(settings.hosts),
        port=settings.port,
        protocol_version=5,
        connect_timeout=settings.timeout_s,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile(*soon_s, lost_s), WRITES: profile(lost_s, lost_s)},
        auth_provider=PlainTextAuthProvider(settings.user, password) if settings.user else None,
        ssl_context=_tls(settings) if settings.tls else None,
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    try:
        with ours():
            return cluster, cluster.connect(settings.keyspace, wait_for_all_pools=True)
    except BaseException:
        cluster.shutdown()
        raise


def _tls(settings: CassandraSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)  # checks the name in the certificate too
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
    except OSError as error:  # ssl.SSLError is one
        raise Invalid(
            f"The online store's certificates cannot be used: {error.strerror or error.args[0]}.",
            "See ca, cert and key in its URL.",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Statements:
    """Prepared statements, each prepared once and asked with the consistency that its table's view wants."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._prepared: dict[tuple[str, str | None], Any] = {}

    def get(self, cql: str, table: OnlineTable) -> Any:
        wanted = (cql, table.online.consistency)
        found = self._prepared.get(wanted)
        if found is None:
            with self._lock, ours():
                found = _prepare(self._session, cql)
                found.is_idempotent = True  # a write has its timestamp: what is asked twice is done once
                found.fetch_size = None  # paging an IN costs half of its time
                if table.online.consistency is not None:
                    found.consistency_level = ConsistencyLevel.name_to_value[table.online.consistency]
                self._prepared[wanted] = found
        return found

    def forget(self, table: OnlineTable) -> None:
        """A table that is dropped may come back with other columns."""
        with self._lock:
            self._prepared = {k: p for k, p in self._prepared.items() if f'"{table.name}"' not in k[0]}


def _prepare(session: Any, cql: str) -> Any:
    """The statement, as the nodes know it; of a node that says nothing the next is asked."""
    try:
        return session.prepare(cql)
    except OperationTimedOut:  # what it was asked is under way still: it is not the least busy one now
        return session.prepare(cql)


@contextmanager
def ours() -> Iterator[None]:
    """The driver's errors as themisto's."""
    try:
        yield
    except _DRIVERS as error:
        raise _translated(error) from error


def as_ours(error: Exception) -> Exception:
    """One of the driver's errors as themisto's; any other as it is."""
    return _translated(error) if isinstance(error, _DRIVERS) else error


def _translated(error: Exception) -> ThemistoError:
    text = str(error)
    if _NO_KEYSPACE.search(text):
        return NotFound("The keyspace of the online store does not exist.", "An operator makes it: CREATE KEYSPACE.")
    if isinstance(error, InvalidRequest) and _NO_TABLE.search(text):
        return NotFound("This view has no online rows yet.", "Run %features materialize VIEW.")
    if isinstance(error, InvalidRequest):
        return Unavailable(f"The online store refused a statement: {text}.", "Check its keyspace.")
    causes = [error, *error.errors.values()] if isinstance(error, NoHostAvailable) else [error]
    return (
        _refused(causes)
        or _overburdened(causes)
        or Unavailable(
            f"No node of the online store can be reached: {text}.", "See that its nodes run and its URL names them."
        )
    )


def _refused(causes: list[Exception]) -> ThemistoError | None:
    for cause in causes:
        if isinstance(cause, AuthenticationFailed | Unauthorized):
            return Refused(
                "The online store refuses the user or the password.", "See user and password_file in its URL."
            )
        if isinstance(cause, ssl.SSLError):
            return Unavailable(f"TLS with the online store fails: {cause.reason}.", "See tls and ca in its URL.")
    return None


def _overburdened(causes: list[Exception]) -> Unavailable | None:
    for cause in causes:
        if isinstance(cause, TooFew):
            return Unavailable(
                f"The online store has {cause.alive_replicas} of the {cause.required_replicas} replicas alive that "
                "a request needs.",
                "Start its nodes again (nodetool status shows which); it then goes on by itself.",
            )
    if any(isinstance(cause, Timeout | OperationTimedOut) for cause in causes):
        return Unavailable("The online store does not answer in time.", "See its nodes' load (nodetool tpstats).")
    return None
