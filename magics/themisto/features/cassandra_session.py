"""A session with Cassandra: encrypted, pooled, and with what to do when a node does not answer.

Imports the driver (0.5 s); imported by `cassandra` when a store is opened.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
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
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    NoSpeculativeExecutionPolicy,
    RetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from themisto.errors import Invalid, NotFound, Refused, ThemistoError, Unavailable
from themisto.features.cassandra_settings import CassandraSettings

__all__ = ["connect", "ours"]

_ATTEMPTS = 2  # beyond the first
_NO_TABLE = re.compile(r"unconfigured table|table .* does not exist", re.IGNORECASE)
_NO_KEYSPACE = re.compile(r"keyspace .* does not exist", re.IGNORECASE)


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


def connect(settings: CassandraSettings) -> tuple[Any, Any]:
    """Cluster and session, its pools open. Raises Unavailable, Refused, NotFound, Invalid."""
    near = DCAwareRoundRobinPolicy(local_dc=settings.dc) if settings.dc else RoundRobinPolicy()
    delay_s = settings.speculative_ms / 1000
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(near),
        consistency_level=ConsistencyLevel.name_to_value[settings.consistency],
        request_timeout=settings.timeout_s,
        row_factory=tuple_factory,
        retry_policy=_OnAnotherNode(),
        speculative_execution_policy=(  # of idempotent statements only: our reads
            ConstantSpeculativeExecutionPolicy(delay_s, 1) if delay_s else NoSpeculativeExecutionPolicy()
        ),
    )
    password = settings.password.get_secret_value() if settings.password else None
    cluster = Cluster(
        list(settings.hosts),
        port=settings.port,
        protocol_version=5,
        connect_timeout=settings.timeout_s,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
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


@contextmanager
def ours() -> Iterator[None]:
    """The driver's errors as themisto's."""
    try:
        yield
    except (DriverException, RequestExecutionException, NoHostAvailable) as error:
        raise _translated(error) from error


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
        or _overburdened(error)
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


def _overburdened(error: Exception) -> Unavailable | None:
    if isinstance(error, TooFew):
        return Unavailable(
            f"The online store has {error.alive_replicas} of the {error.required_replicas} replicas alive that "
            "a request needs.",
            "Start its nodes again (nodetool status shows which); it then goes on by itself.",
        )
    if isinstance(error, Timeout | OperationTimedOut):
        return Unavailable("The online store does not answer in time.", "See its nodes' load (nodetool tpstats).")
    return None
