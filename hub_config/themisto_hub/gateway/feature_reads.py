"""Reading and writing the online store, for the one process that owns it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from themisto.errors import Invalid, NotFound, Unavailable
from themisto.features.dtypes import stored
from themisto.features.on_demand import Expressions
from themisto.features.online import OnlineStore, OnlineTable, Row
from themisto.features.reading import Found, as_json, read_online, tables_of
from themisto.features.records import ServiceSpec
from themisto.features.tiles import write_rows
from themisto.spans import span
from themisto.types import Model
from themisto_hub.gateway.feature_book import FeatureBook
from themisto_hub.gateway.feature_callers import GatewayCaller
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_policy import LastRows

__all__ = ["FeatureReads", "ReadRequest", "age_s"]

_LOG = logging.getLogger(__name__)


class ReadRequest(Model):
    """Body of `POST /features/v1/{service}`."""

    entities: list[dict[str, Any]]
    group: str | None = None
    view_times: bool = False


@dataclass
class FeatureReads:
    """The book, the store and the threads that touch it."""

    store: OnlineStore
    book: Watched[FeatureBook]
    deadline_s: float = 0.25
    last: LastRows = field(default_factory=LastRows)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "online-store"))
    _tables: dict[tuple[str, str], dict[str, OnlineTable]] = field(default_factory=dict)
    _expressions: dict[tuple[str, str], Expressions] = field(default_factory=dict)
    _ensured: dict[str, OnlineTable] = field(default_factory=dict)

    def warm(self) -> None:
        """Prepare what the book's services read, so that the first caller does not wait for it."""
        for spec in self.book.value.services:
            for table in tables_of(spec).values():
                try:
                    self.store.prepare(table)
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

    async def find(
        self,
        spec: ServiceSpec,
        entities: Sequence[Mapping[str, Any]],
        *,
        within_s: float | None = None,
        view_times: bool = False,
    ) -> Found:
        """Newest features of the entities, in their order. Raises Unavailable after `deadline_s`, or `within_s`."""
        limit = self.deadline_s if within_s is None else min(self.deadline_s, within_s)
        tables = self._tables.get((spec.group, spec.ref))
        if tables is None:
            tables = self._tables[spec.group, spec.ref] = tables_of(spec)

        def read() -> Found:
            return read_online(self.store, spec, entities, tables=tables, view_times=view_times)

        told: dict[str, str | int] = {"themisto.feature_service": spec.ref, "themisto.rows": len(entities)}
        try:
            with span("features.read", told):
                async with asyncio.timeout(limit):
                    found = await asyncio.get_running_loop().run_in_executor(self._threads, read)
        except TimeoutError:
            raise Unavailable(
                f"The features of {spec.ref} were not read within {limit * 1000:.0f} ms.", "Try again in a moment."
            ) from None
        self.last.keep(spec, entities, found)
        return found

    async def compute(
        self, spec: ServiceSpec, found: Found, request: Mapping[str, Sequence[Any]], *, within_s: float | None = None
    ) -> Found:
        """What was found, each row with its on-demand features behind.

        request: a column of values each. Raises Invalid for those that do not fit, Unavailable after the deadline.
        """
        limit = self.deadline_s if within_s is None else min(self.deadline_s, within_s)
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
            raise Unavailable(
                f"The on-demand features of {spec.ref} took over {limit * 1000:.0f} ms.", "Compute less a row."
            ) from None
        return found.model_copy(update={"rows": rows})

    async def answer(self, ref: str, body: bytes, caller: GatewayCaller) -> dict[str, Any]:
        """The answer of `POST /features/v1/{service}`, ready for JSON: NaN and infinities are null."""
        try:
            request = ReadRequest.model_validate_json(body)
        except ValidationError as error:
            raise Invalid(f"The body is not right: {error.errors()[0]['msg']}.", 'Send {"entities": [{…}]}.') from None
        groups = caller.groups
        if request.group is not None:
            groups = tuple(g for g in groups if g == request.group)
        spec = self.spec(ref, groups)
        found = await self.find(spec, request.entities, view_times=request.view_times)
        names, rows = as_json(spec, found.rows, request.entities)
        answer: dict[str, Any] = {
            "service": spec.ref,
            "columns": names,
            "rows": rows,
            "event_times": _iso(found.event_times),
        }
        if request.view_times:
            answer["view_times"] = {view: _iso(times) for view, times in found.view_times.items()}
        return answer

    async def write(self, lines: bytes) -> int:
        """Rows as the control plane's worker sends them: a table, then one row a line."""
        table, sent = _read(lines)
        rows = [_row(table, values) for values in sent]

        def write() -> int:
            self._ensure(table)
            return write_rows(self.store, table, rows)

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


def _iso(times: Sequence[datetime | None]) -> list[str | None]:
    return [None if t is None else t.isoformat() for t in times]


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
