"""Erasing an entity: from the online store, from every file of rows there ever was, and from what comes in later."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from themisto.errors import NotFound, ThemistoError
from themisto.features.erasing import erased_among, holds, key_hash, key_in, quarantine_without, without
from themisto.features.models import FeatureView
from themisto.features.online import OnlineTable
from themisto.features.records import Erasure, Quarantine
from themisto.types import new_ulid
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.online import OnlineWriter
from themisto_hub.control.features.rows import Rows
from themisto_hub.control.features.tables import (
    DataRow,
    ErasureRow,
    MaterializationRow,
    PushRow,
    RewrittenRow,
    ViewRow,
)
from themisto_hub.control.keyfile import load_or_make_secret

__all__ = ["Erasing"]

_log = logging.getLogger(__name__)


class Erasing:
    """Records what is asked for, does it, and keeps erased entities out of what comes in."""

    def __init__(self, control: Control, rows: Rows, online: OnlineWriter) -> None:
        self._control = control
        self._rows = rows
        self._online = online

    @cached_property
    def _secret(self) -> bytes:
        return load_or_make_secret(self._control.settings.folder("control") / "keys" / "erasure.key")

    def ask(self, caller: Caller, group: str, entity: str, keys: Mapping[str, Any]) -> Erasure:
        """Record an erasure for the worker; from this moment on nothing of the entity is taken in.

        Raises NotFound for an entity that no view is about, Invalid for keys that are not its.
        """
        with self._control.db.write() as session:
            views = [view for _, view in self._about(session, group, entity)]
            if not views:
                raise NotFound(f"No feature view is about '{entity}'.", "See %features list.")
            key = key_in(views[-1], keys)
            row = ErasureRow(
                id=new_ulid(),
                group_name=group,
                entity=entity,
                key_hash=key_hash(self._secret, entity, key),
                key=key,
                state="waiting",
                views=sorted({view.name for view in views}),
                files=0,
                message="",
                requested_by=caller.name,
                created_at=self._control.clock(),
                done_at=None,
            )
            session.add(row)
            self._control.audit.append(
                session,
                actor=caller.name,
                action="feature_entity.erase",
                object=f"feature_entity/{group}/{entity}",
                group=group,
                after={"erasure": row.id, "key_hash": row.key_hash, "views": row.views},
                request_id=caller.request_id,
            )
            return _model(row)

    def get(self, caller: Caller, erasure: str) -> Erasure:
        """Raises NotFound, also for one of a group that is not the caller's."""
        with self._control.db.read() as session:
            row = session.get(ErasureRow, erasure)
            if row is None or row.group_name not in caller.groups:
                raise NotFound(f"There is no erasure {erasure}.", "Ask for one: %features erase.")
            return _model(row)

    def keep_out(self, group: str, view: FeatureView, path: Path) -> list[Path]:
        """A file that came in without the rows of erased entities, beside it; empty where it has none of them."""
        with self._control.db.read() as session:
            of_entity = (ErasureRow.group_name == group, ErasureRow.entity == view.entity.name)
            hashes = set(session.scalars(select(ErasureRow.key_hash).where(*of_entity)))
        found = erased_among(view, path, self._secret, hashes)
        return [without(view, path, found, path.parent)[0]] if found else []

    def do(self) -> None:
        """Do what waits, oldest first; what fails is tried again."""
        with self._control.db.read() as session:
            query = select(ErasureRow.id).where(ErasureRow.state == "waiting").order_by(ErasureRow.id)
            waiting = session.scalars(query).all()
        for erasure in waiting:
            try:
                self._erase(erasure)
            except ThemistoError as error:
                self._note(erasure, str(error))
            except Exception:  # noqa: BLE001 - one that fails must not keep the others
                _log.exception("erasure %s", erasure)
                self._note(erasure, "The worker met an error of its own; it is in its log.")

    def _erase(self, erasure: str) -> None:
        with self._control.db.read() as session:
            row = session.get_one(ErasureRow, erasure)
            group, key = row.group_name, row.key or ""
            views = [view for _, view in self._about(session, group, row.entity)]
        self._erase_online(group, views, key)
        files = 0
        for name in sorted({view.name for view in views}):
            with self._rows.changing(group, name):
                files += self._erase_offline(group, name, [v for v in views if v.name == name], key)
        self._erase_online(group, views, key)  # what a materialization that was under way has brought back
        with self._control.db.write() as session:
            done = session.get_one(ErasureRow, erasure)
            done.state, done.key, done.files, done.message = "done", None, files, ""
            done.done_at = self._control.clock()
            self._control.audit.append(
                session,
                actor="themisto",
                action="feature_entity.erased",
                object=f"feature_entity/{group}/{done.entity}",
                group=group,
                after={"erasure": done.id, "files": files},
            )

    def _erase_online(self, group: str, views: list[FeatureView], key: str) -> None:
        for view in views:
            self._online.erase(OnlineTable.of(view, group), [key])

    def _erase_offline(self, group: str, name: str, versions: list[FeatureView], key: str) -> int:
        """Write every file of the view anew that has the key: how many."""
        by_version = {view.version: view for view in versions}
        with self._control.db.read() as session:
            parts = lookup.parts(session, group, name)
        count = self._erase_quarantined(group, name, parts, by_version, key)
        for sha256, version in sorted({(part.sha256, part.version) for part in parts}):
            path = self._rows.held(group, name, sha256)
            if path is None or not holds(by_version[version], path, key):
                continue
            data = self._rows.kept(group, name, without(by_version[version], path, [key], path.parent)[1])
            with self._control.db.write() as session:
                session.merge(
                    RewrittenRow(
                        group_name=group, view=name, sha256=sha256, became=data.sha256, at=self._control.clock()
                    )
                )
                for table in (DataRow, PushRow, MaterializationRow):
                    of_file = (table.group_name == group, table.view == name, table.sha256 == sha256)
                    rows = {} if table is MaterializationRow else {"rows": data.rows}
                    session.execute(update(table).where(*of_file).values(sha256=data.sha256, **rows))
            count += 1
        self._rows.sweep(group, name, parts, lambda path: holds(versions[-1], path, key))
        return count

    def _erase_quarantined(
        self, group: str, name: str, parts: list[lookup.Part], versions: Mapping[int | None, FeatureView], key: str
    ) -> int:
        """The same of rows that are not as expected."""
        became: dict[str, Quarantine | None] = {}
        for part in parts:
            for quarantine in part.quarantined:
                view, sha256 = versions[part.version], quarantine.sha256
                path = None if sha256 in became else self._rows.held(group, name, quarantine)
                if path is not None and holds(view, path, key):
                    became[sha256] = left = quarantine_without(view, path.parent.parent, quarantine, key)
                    if left is not None:
                        self._rows.kept_apart(group, name, left)
        if became:
            with self._control.db.write() as session:
                lookup.change_quarantined(session, group, name, lambda q: became.get(q.sha256, q))
        return len(became)

    def _about(self, session: Session, group: str, entity: str) -> list[tuple[ViewRow, FeatureView]]:
        """All versions of all views about an entity."""
        query = select(ViewRow).where(ViewRow.group_name == group).order_by(ViewRow.name, ViewRow.version)
        found = [(row, lookup.view_model(row)) for row in session.scalars(query)]
        return [(row, view) for row, view in found if view.entity.name == entity]

    def _note(self, erasure: str, message: str) -> None:
        with self._control.db.write() as session:
            session.get_one(ErasureRow, erasure).message = message


def _model(row: ErasureRow) -> Erasure:
    return Erasure(
        id=row.id,
        entity=row.entity,
        group=row.group_name,
        state="done" if row.state == "done" else "waiting",
        views=tuple(row.views),
        files=row.files,
        message=row.message,
        requested_by=row.requested_by,
        created_at=row.created_at,
        done_at=row.done_at,
    )
