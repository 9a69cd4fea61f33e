"""Reading and writing the online store, for the one process that owns it: predictions by key and the read API alike."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from themisto.errors import Invalid, Late, NotFound, Unavailable
from themisto.features.dtypes import stored
from themisto.features.on_demand import Expressions
from themisto.features.online import AsyncReads, OnlineStore, OnlineTable, Row
from themisto.features.reading import Found, Plan, ViewRead, not_online, plan_of, read_view
from themisto.features.readings import Asked, Reading, check_last, histories, read_last
from themisto.features.records import ServiceSpec
from themisto.features.tiles import write_rows
from themisto.spans import span
from themisto.types import utcnow
from themisto_hub.gateway.feature_book import FeatureBook
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_policy import LastRows

__all__ = ["FeatureReads", "age_s"]

_LOG = logging.getLogger(__name__)
_PLANS = 1000
_THREADS = 16
"""Views that are read at one time; what waits longer than its deadline is not begun."""

T = TypeVar("T")


@dataclass
class FeatureReads:
    """The book, the store and the threads that touch it."""

    store: OnlineStore
    book: Watched[FeatureBook]
    deadline_s: float = 0.25
    last: LastRows = field(default_factory=LastRows)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "online-store"))
    _plans: OrderedDict[tuple[str, str, tuple[str, ...] | None], Plan] = field(default_factory=OrderedDict)
    _expressions: dict[tuple[str, str], Expressions] = field(default_factory=dict)
    _ensured: dict[str, OnlineTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._async = self.store if isinstance(self.store, AsyncReads) else None

    def warm(self) -> None:
        """Prepare what the book's services read, so that the first caller does not wait for it."""
        for spec in self.book.value.services:
            for view in self.plan(spec).views:
                try:
                    self.store.prepare(view.table)
                except NotFound:
                    continue  # never materialized
                except Unavailable as error:
                    _LOG.warning("%s The first reads will be slower.", error.detail)
                    return

    def spec(self, ref: str, groups: tuple[str, ...]) -> ServiceSpec:
        """The service; one that is not in the book sends us to the file again before we say no."""
        try:
            return self.book.value.find(ref, groups)
        except NotFound:
            if not self.book.refresh():
                raise
            return self.book.value.find(ref, groups)

    def plan(self, spec: ServiceSpec, features: tuple[str, ...] | None = None) -> Plan:
        """What a read asks of which view; made once for each version of a service and choice of its features.

        Raises Invalid for a feature that it has not.
        """
        place = spec.group, spec.ref, features
        known = self._plans.get(place)
        if known is None or known.spec is not spec:  # the same version, kept in another way since
            known = self._plans[place] = plan_of(spec, features)
            self._plans.move_to_end(place)
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return known

    async def find(
        self, spec: ServiceSpec, entities: Sequence[Mapping[str, Any]], *, within_s: float | None = None
    ) -> Found:
        """For a prediction: newest features of the entities. Raises Unavailable after `deadline_s`, or `within_s`."""
        found = await self.read(self.plan(spec), entities, self._limit_s(within_s))
        self.last.keep(spec, entities, found)
        return found

    async def read(self, plan: Plan, entities: Sequence[Mapping[str, Any]], limit_s: float) -> Found:
        """Newest features of the entities, in their order: each view is asked once, all at the same time.

        Raises Invalid for entities that are none, Late after `limit_s`, Unavailable where the store does not answer.
        """
        plan.check(entities)
        now = utcnow()

        def ask(view: ViewRead) -> Sequence[Row | None]:
            return read_view(self.store, view, keys[view.name], now)

        def begin(view: ViewRead) -> Future[list[Row | None]] | None:
            if view.table.windows is not None or self._async is None:
                return None
            try:
                return self._async.read_async(view.table, keys[view.name])
            except Unavailable as error:
                raise _of_view(view, error) from error

        keys = {view.name: view.keys_of(entities) for view in plan.views}
        return plan.together(await self._each_view(plan, ask, len(entities), limit_s, begin), now)

    async def read_last(self, asked: Asked, entities: Sequence[Mapping[str, Any]], limit_s: float) -> Reading:
        """The last values of each entity, in the same way."""
        plan, now = asked.plan, utcnow()
        plan.check(entities)
        count = check_last(asked, len(entities))
        keys = {view.name: view.keys_of(entities) for view in plan.views}

        def ask(view: ViewRead) -> list[list[Row]]:
            return read_last(self.store, view, keys[view.name], count)

        return histories(asked, await self._each_view(plan, ask, len(entities), limit_s), now)

    async def _each_view(
        self,
        plan: Plan,
        ask: Callable[[ViewRead], T],
        entities: int,
        limit_s: float,
        begin: Callable[[ViewRead], Future[Any] | None] = lambda _: None,
    ) -> list[T]:
        """What each view answers, in their order; one deadline for all of them.

        ask: in a thread. begin: the same where no thread needs to wait for it.
        """
        loop = asyncio.get_running_loop()
        told: dict[str, str | int] = {"themisto.feature_service": plan.spec.ref, "themisto.rows": entities}
        jobs: dict[asyncio.Future[T], ViewRead] = {}
        with span("features.read", told):
            try:
                for view in plan.views:
                    begun = begin(view)
                    job = (
                        loop.run_in_executor(self._threads, ask, view) if begun is None else asyncio.wrap_future(begun)
                    )
                    jobs[job] = view
                done, late = await asyncio.wait(jobs, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
                failed = [(v, error) for job, v in jobs.items() if job in done and (error := job.exception())]
                if failed:
                    raise _of_view(*failed[0])
                if late:
                    raise _late(plan.spec.ref, [view.name for job, view in jobs.items() if job in late], limit_s)
            finally:
                for job in jobs:
                    job.cancel()  # one that waits for a thread need not begin
        return [job.result() for job in jobs]

    def _limit_s(self, within_s: float | None) -> float:
        return self.deadline_s if within_s is None else min(self.deadline_s, within_s)

    async def compute(
        self,
        spec: ServiceSpec,
        found: Found,
        request: Mapping[str, Sequence[Any]],
        *,
        within_s: float | None = None,
        limit_s: float | None = None,
    ) -> Found:
        """What was found, each row with its on-demand features behind.

        request: a column of values each. limit_s: how long, in place of `deadline_s` or `within_s`.
        Raises Invalid for values that do not fit, Late after the deadline.
        """
        limit = self._limit_s(within_s) if limit_s is None else limit_s
        expressions = self._expressions.setdefault((spec.group, spec.ref), Expressions(spec))
        running: list[Any] = []
        late = False

        def compute() -> list[list[Any]]:
            taken = expressions.take()
            running.append(taken[0])
            return [] if late else expressions.of_rows(found.rows, request, taken)

        try:
            async with asyncio.timeout(limit):
                rows = await asyncio.get_running_loop().run_in_executor(self._threads, compute)
        except TimeoutError:
            late = True
            for connection in running:
                connection.interrupt()
            raise Late(
                f"The on-demand features of {spec.ref} took over {limit * 1000:.0f} ms.", "Compute less a row."
            ) from None
        return found.model_copy(update={"rows": rows})

    async def write(self, lines: bytes, *, new: bool = False) -> int:
        """Rows as the control plane's worker sends them: a table, then one row a line."""
        table, sent = _read(lines)
        rows = [_row(table, values) for values in sent]

        def write() -> int:
            self._ensure(table)
            return write_rows(self.store, table, rows, new=new)

        return await asyncio.get_running_loop().run_in_executor(self._threads, write)

    async def erase(self, lines: bytes) -> int:
        """Remove entities: a table, then a list of one key a line."""
        table, sent = _read(lines)
        keys = [str(values[0]) for values in sent]

        def erase() -> int:
            self._ensure(table)
            self.store.erase(table, keys)
            self.last.forget()
            return len(keys)

        return await asyncio.get_running_loop().run_in_executor(self._threads, erase)

    def _ensure(self, table: OnlineTable) -> None:
        if self._ensured.get(table.name) != table:
            self.store.ensure(table)
            self._ensured[table.name] = table

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        self.store.close()


def age_s(found: Found) -> float | None:
    """Seconds since the oldest event time behind the rows."""
    moments = [t for t in found.event_times if t is not None]
    return (datetime.now(UTC) - min(moments)).total_seconds() if moments else None


def _of_view(view: ViewRead, error: BaseException) -> BaseException:
    """What went wrong, by the view's name."""
    if isinstance(error, NotFound):
        return not_online(view)
    if isinstance(error, Unavailable):
        return type(error)(f"'{view.name}' cannot be read now: {error.detail}", error.remedy)
    return error


def _late(service: str, views: Sequence[str], limit_s: float) -> Late:
    names = ", ".join(f"'{name}'" for name in views)
    return Late(
        f"The features of {service} were not read within {limit_s * 1000:.0f} ms: {names} came too late.",
        "Try again in a moment, or give it more time.",
    )


def _read(lines: bytes) -> tuple[OnlineTable, list[list[Any]]]:
    first, _, rest = lines.partition(b"\n")
    try:
        return OnlineTable.model_validate_json(first), [json.loads(line) for line in rest.splitlines()]
    except ValueError as error:
        raise Invalid(f"The rows cannot be read: {error}.", "Send a table and JSON lines.") from None


def _row(table: OnlineTable, values: list[Any]) -> Row:
    """A row as it was sent: decimals came as text."""
    if not isinstance(values, list) or len(values) != len(table.sent) + 3:
        raise Invalid(f"A row has not key, times and {len(table.sent)} values.", "Send all of them.")
    for place, column in enumerate(table.sent, 3):
        if column.dtype == "decimal":
            values[place] = stored(column.dtype, values[place])
    return tuple(values)
