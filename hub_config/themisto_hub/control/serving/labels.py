"""Labels: what turned out to be true, kept beside the prediction log and joined with it when it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import JSON, ForeignKey, Integer, String, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from themisto.errors import Conflict, Invalid
from themisto.serving.personal import STICKY_KEY, unreadable_keys
from themisto.types import Model
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.db import Base, UtcDateTime
from themisto_hub.control.serving.guard import recorded_refusals, require_owner
from themisto_hub.control.serving.records import endpoint_row
from themisto_hub.control.serving.tables import ReleaseRow

__all__ = ["MAX_BYTES", "MAX_LABELS", "LabelRow", "Labels", "On", "Posted", "joined"]

MAX_BYTES = 16 * 2**20
MAX_LABELS = 100_000
_MAX_UNPACKED = 128 * 2**20
_MAX_TEXT = 1000
_CHUNK = 5000
_EVERY_ROW = "*"

On = Literal["request_id", "key"]
"""What a label is about: one request's row, or every earlier request sent under a key."""


class LabelRow(Base):
    """One label, a number or a text."""

    __tablename__ = "serving_label"

    endpoint: Mapped[str] = mapped_column(ForeignKey("serving_endpoint.name"), primary_key=True)
    about: Mapped[str] = mapped_column(String(10), primary_key=True)
    id: Mapped[str] = mapped_column(String(256), primary_key=True)
    row: Mapped[int] = mapped_column(Integer, primary_key=True)
    """Which row of the request; 0 for a key."""
    label: Mapped[Any] = mapped_column(JSON)
    known_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Posted(Model):
    """What a post of labels has done: of `labels`, how many are new and how many say something else than before."""

    labels: int
    new: int
    changed: int


class Labels:
    """Takes labels in."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def post(self, caller: Caller, name: str, body: bytes, *, on: On = "request_id") -> Posted:
        """Store the labels in `body`, a Parquet file; one event. The same post again changes nothing.

        Columns: `id` (text: a request id, or a key), `label` (number, truth value or text, none missing),
        and where wanted `row` (integer, default 0) and `known_at` (time, default now). A label that is
        there is replaced. An endpoint's labels are numbers or texts, never both.

        Raises Invalid, Refused, NotFound, Conflict for the other kind of label, and for keys that the log keeps
        unreadable.
        """
        with recorded_refusals(self._control, caller, "labels.post", f"endpoint/{name}"):
            caller.require("deploy")
            with self._control.db.read() as session:
                require_owner(caller, endpoint_row(session, name))
                if on == "key":
                    _require_keys(session, name)
        given = _given(body, self._control.clock())
        with self._control.db.write() as session:
            endpoint = endpoint_row(session, name)
            require_owner(caller, endpoint)
            _require_kind(session, name, given)
            posted = _store(session, name, on, given)
            self._control.audit.append(
                session,
                actor=caller.name,
                action="labels.post",
                object=f"endpoint/{name}",
                group=endpoint.group_name,
                after={"on": on, **posted.model_dump()},
                request_id=caller.request_id,
            )
        return posted


def joined(session: Session, endpoint: str, log: Any) -> Any:
    """`log` (an Arrow table) with a column `labels`: JSON, row number or `*` (every row) to label; null without.

    A request's own label goes before its key's. A key's label is for requests up to the moment at which
    it was known: what happened later does not label a later request.
    """
    import pyarrow as pa

    lines = log.select(["request_id", "key", "time"]).to_pylist()
    own = _labels_of(session, endpoint, "request_id", {r["request_id"] for r in lines})
    by_key = _labels_of(session, endpoint, "key", {r["key"] for r in lines})
    told: list[str | None] = []
    for line in lines:
        found: dict[str, Any] = {}
        for one in by_key.get(line["key"], ()):
            if line["time"] <= one.known_at:
                found[_EVERY_ROW] = one.label
        found |= {str(one.row): one.label for one in own.get(line["request_id"], ())}
        told.append(json.dumps(found) if found else None)
    return log.append_column("labels", pa.array(told, pa.string()))


class _Given(NamedTuple):
    id: str
    row: int
    label: Any
    known_at: datetime


def _given(body: bytes, now: datetime) -> list[_Given]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows > MAX_LABELS or sum(g.total_byte_size for g in groups) > _MAX_UNPACKED:
            raise Invalid(f"That is more than {MAX_LABELS:,} labels or 128 MiB.", "Post them in several parts.")
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise Invalid(f"The labels are no readable Parquet: {error}", "Post a DataFrame with label(…).") from None
    return _checked(table, now)


def _checked(table: Any, now: datetime) -> list[_Given]:
    columns = set(table.column_names)
    if not {"id", "label"} <= columns <= {"id", "label", "row", "known_at"}:
        raise Invalid(
            f"The columns of the labels are {', '.join(sorted(columns)) or 'none'}.",
            "They must be id and label; row and known_at may be there, too.",
        )
    kind = _kind(table.schema.field("label").type)
    ids = _texts(table, "id")
    labels: list[Any] = [kind(v) if v is not None else None for v in table["label"].to_pylist()]
    if any(v is None or v != v for v in labels):  # noqa: PLR0124 - NaN is not equal to itself
        raise Invalid("Labels are missing in some rows.", "Leave those rows out: df.dropna(subset=['label']).")
    if kind is str and any(len(v) > _MAX_TEXT for v in labels):
        raise Invalid(f"A label has more than {_MAX_TEXT:,} characters.", "A label is a number or a short text.")
    if any(v in (float("inf"), float("-inf")) for v in labels):
        raise Invalid("A label is infinite.", "Labels are finite numbers or texts.")
    numbers = _numbers(table) if "row" in columns else [0] * len(ids)
    times = _times(table) if "known_at" in columns else [now] * len(ids)
    given = [_Given(*one) for one in zip(ids, numbers, labels, times, strict=True)]
    if len({(one.id, one.row) for one in given}) != len(given):
        raise Invalid("An id is there more than once.", "Give each request's row, or each key, one label.")
    return given


def _kind(dtype: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if pa.types.is_boolean(dtype) or pa.types.is_integer(dtype) or pa.types.is_floating(dtype):
        return float
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return str
    raise Invalid(f"Labels of type {dtype} cannot be kept.", "A label is a number, True or False, or a text.")


def _texts(table: Any, name: str) -> list[str]:
    values: list[str] = table[name].to_pylist()
    if not all(isinstance(v, str) and 0 < len(v) <= 256 for v in values):
        raise Invalid("An id is missing, no text, or over 256 characters.", "Give request ids or keys as text.")
    return values


def _numbers(table: Any) -> list[int]:
    values: list[int] = table["row"].to_pylist()
    if not all(isinstance(v, int) and 0 <= v < 2**31 for v in values):
        raise Invalid("A row number is missing or no whole number from 0.", "It is the column `row` of the log.")
    return values


def _times(table: Any) -> list[datetime]:
    values = table["known_at"].to_pylist()
    if not all(isinstance(v, datetime) and v.tzinfo is not None for v in values):
        raise Invalid("known_at must be a time with its zone in every row.", "pd.to_datetime(…, utc=True).")
    return [v.to_pydatetime() if hasattr(v, "to_pydatetime") else v for v in values]


def _require_keys(session: Session, endpoint: str) -> None:
    """A personal key is not in the log as callers sent it: labels by it would meet nothing, and be readable here."""
    declared = select(ReleaseRow.content["personal"]).where(ReleaseRow.endpoint == endpoint)
    if any(STICKY_KEY in (personal or {}) for personal in session.scalars(declared)):
        raise unreadable_keys(endpoint, "Post the labels by request_id, from %deploy log.")


def _require_kind(session: Session, endpoint: str, given: Sequence[_Given]) -> None:
    one = session.scalars(select(LabelRow).where(LabelRow.endpoint == endpoint).limit(1)).first()
    if one is None or not given or isinstance(one.label, str) == isinstance(given[0].label, str):
        return
    before, now = ("texts", "numbers") if isinstance(one.label, str) else ("numbers", "texts")
    raise Conflict(f"The labels of '{endpoint}' are {before}; these are {now}.", f"Post {before}.")


def _store(session: Session, endpoint: str, on: On, given: Sequence[_Given]) -> Posted:
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for chunk in _chunks(given):
        known = {
            (row.id, row.row): row
            for rows in _labels_of(session, endpoint, on, {one.id for one in chunk}).values()
            for row in rows
        }
        for one in chunk:
            content = {"endpoint": endpoint, "about": on, **one._asdict()}
            there = known.get((one.id, one.row))
            if there is None:
                new.append(content)
            elif there.label != one.label:
                changed.append(content)
    if new:
        session.execute(LabelRow.__table__.insert(), new)  # type: ignore[attr-defined]
    if changed:
        session.execute(update(LabelRow), changed)
    return Posted(labels=len(given), new=len(new), changed=len(changed))


def _labels_of(session: Session, endpoint: str, about: On, ids: set[str | None]) -> dict[str | None, list[LabelRow]]:
    found: dict[str | None, list[LabelRow]] = {}
    for chunk in _chunks(sorted(one for one in ids if one is not None)):
        query = select(LabelRow).where(
            LabelRow.endpoint == endpoint, LabelRow.about == about, LabelRow.id.in_(list(chunk))
        )
        for row in session.scalars(query):
            found.setdefault(row.id, []).append(row)
    return found


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
