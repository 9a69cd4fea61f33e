"""Pushes: rows that go into a view one event at a time, readable online when the call returns."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from themisto.errors import NotFound, Unavailable
from themisto.features.latest import fillable, latest
from themisto.features.online import OnlineTable
from themisto.features.records import Pushed
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.layers import Also, Layers
from themisto_hub.control.features.online import OnlineWriter
from themisto_hub.control.features.rows import Rows
from themisto_hub.control.features.tables import PushRow

__all__ = ["Pushing"]

_REST = 20  # times as long as a merge took, until the next one of the view
_log = logging.getLogger(__name__)


class Pushing:
    """Keeps what is pushed, brings it online, and has it merged into the view's file."""

    def __init__(self, control: Control, rows: Rows, layers: Layers, online: OnlineWriter) -> None:
        self._control = control
        self._rows = rows
        self._layers = layers
        self._online = online
        self._next: dict[tuple[str, str], float] = {}

    def push(
        self, caller: Caller, group: str, name: str, draft: Path, sha256: str | None, *, also: Also | None = None
    ) -> Pushed:
        """Rows of a view, as Parquet: kept, then brought online. also: as for `Layers.push`.

        An online store that does not answer changes nothing: the rows come there by themselves later.
        """
        _, push = self._layers.push(caller, group, name, draft, sha256, also=also)
        try:
            return self._bring(push)
        except Unavailable as error:
            _log.warning("push %s waits for the online store: %s", push, error)
            return self._pushed(push)

    def make_ready(self, group: str, name: str) -> None:
        """Have tables online for what will come: who is read before it does is an entity without a row."""
        with self._control.db.read() as session:
            models = [lookup.view_model(v) for v in lookup.view_versions(session, group, name)]
            targets = fillable(models, lookup.pinned(session, group, name))
        for view in targets:
            self._online.write(OnlineTable.of(view, group), [])

    def catch_up(self, group: str, name: str) -> None:
        """Bring online what of the view waits for it. Raises Unavailable."""
        with self._control.db.read() as session:
            of_view = (PushRow.group_name == group, PushRow.view == name, PushRow.online.is_(False))
            waiting = session.scalars(select(PushRow.id).where(*of_view).order_by(PushRow.id)).all()
        for push in waiting:
            with suppress(NotFound):  # by now it is part of the view's file
                self._bring(push)

    def do(self) -> None:
        """Bring online what waits for it, and merge what has waited long enough."""
        with self._control.db.read() as session:
            waiting = session.scalars(select(PushRow.id).where(PushRow.online.is_(False)).order_by(PushRow.id)).all()
        for push in waiting:
            try:
                self._bring(push)
            except Unavailable:
                return
            except Exception:  # noqa: BLE001 - one view's trouble is not another's
                _log.exception("push %s cannot be brought online", push)
        for group, view in self._layers.waiting():
            began = time.monotonic()
            if began < self._next.get((group, view), 0):
                continue
            try:
                self._layers.merge(group, view)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("what was pushed into %s/%s cannot be merged", group, view)
            ended = time.monotonic()
            self._next[group, view] = ended + 1 + _REST * (ended - began)

    def _bring(self, push: str) -> Pushed:
        with self._control.db.read() as session:
            row = session.get(PushRow, push)
            if row is None:
                raise NotFound(f"There is no push {push}.", "It is part of its view's rows by now.")
            versions = lookup.view_versions(session, row.group_name, row.view)
            models = [lookup.view_model(v) for v in versions if v.version <= row.view_version]
            targets = fillable(models, lookup.pinned(session, row.group_name, row.view))
            session.expunge_all()
        path = self._rows.path(row.group_name, row.view, row.sha256)
        for view in targets:
            table = OnlineTable.of(view, row.group_name)
            with latest(view, path, written_at=row.written_at) as found:
                for batch, _ in found.rows():
                    self._online.write(table, batch)
        with self._control.db.write() as session:
            kept = session.get(PushRow, push)
            if kept is not None:
                kept.online = True
        return _pushed(row, online=True)

    def _pushed(self, push: str) -> Pushed:
        with self._control.db.read() as session:
            row = session.get_one(PushRow, push)
            return _pushed(row, online=row.online)


def _pushed(row: PushRow, *, online: bool) -> Pushed:
    return Pushed(view=row.view, rows=row.rows, online=online, quarantined=sum(q["rows"] for q in row.quarantined))
