"""What readers see as a view's rows: what came with its definition, and on top of it what was pushed since.

Both layers are files of their own, so that applying a view again replaces the one and leaves the other. A push is
kept at once and becomes part of the file that readers see with the next merge. Each layer is judged by itself, when
it comes in and when the view expects something else, so that a merge brings nothing back that was kept apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from themisto.errors import Invalid
from themisto.features.expectations import rules_of
from themisto.features.judging import judge
from themisto.features.models import FeatureView
from themisto.features.quarantines import together
from themisto.features.records import ViewData
from themisto.features.rowfile import check_left_out, describe, merge
from themisto.types import new_ulid
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.erasing import Erasing
from themisto_hub.control.features.lookup import Part
from themisto_hub.control.features.parts import Parts
from themisto_hub.control.features.rows import Rows
from themisto_hub.control.features.tables import DataRow, PushRow, ViewRow

__all__ = ["Also", "Layers"]

Also = Callable[[Session, ViewRow], dict[str, Any]]
"""What a push writes beside its rows, in their transaction; its answer is what the audit is told of it."""


class Layers:
    """Takes rows into views and merges them."""

    def __init__(self, control: Control, rows: Rows, erasing: Erasing) -> None:
        self._control = control
        self._rows = rows
        self._erasing = erasing

    def waiting(self) -> list[tuple[str, str]]:
        """Group and name of the views with rows that are not part of their file."""
        with self._control.db.read() as session:
            return [(g, v) for g, v in session.execute(select(PushRow.group_name, PushRow.view).distinct())]

    def keep(
        self,
        caller: Caller,
        group: str,
        name: str,
        draft: Path,
        sha256: str | None,
        *,
        left_out: Mapping[str, int] | None = None,
    ) -> ViewData:
        """Verify a draft against the newest version of the view and make it the view's rows, below what was pushed.

        left_out: how many rows whoever made the draft has left out, by the reason.
        """
        with self._rows.changing(group, name):
            view, data = self._take_in(group, name, draft, sha256, left_out=left_out or {})
            data = data.model_copy(update={"written_at": self._control.clock()})
            with self._control.db.read() as session:
                row = self._still(session, group, view)
                session.expunge_all()
            return self._judge(row, view, data, actor=caller.name, request_id=caller.request_id) or data

    def push(
        self, caller: Caller, group: str, name: str, draft: Path, sha256: str | None, *, also: Also | None = None
    ) -> tuple[FeatureView, str]:
        """Keep rows that become part of the view's file with the next `merge`: the view, and the push's id.

        also: what is written together with them, or not at all; for rows of a stream, of which none may be as expected.
        """
        with self._rows.changing(group, name):
            return self._push(caller, group, name, draft, sha256, also=also)

    def _push(
        self, caller: Caller, group: str, name: str, draft: Path, sha256: str | None, *, also: Also | None
    ) -> tuple[FeatureView, str]:
        view, data = self._take_in(group, name, draft, sha256, part=True, none=also is not None, left_out={})
        data = data.cleared()  # nothing of a push is online before it is judged
        with self._control.db.write() as session:
            row = self._still(session, group, view)
            told = _told(data) | (also(session, row) if also is not None else {})
            push = PushRow(
                id=new_ulid(),
                group_name=group,
                view=name,
                view_version=row.version,
                sha256=data.sha256,
                rows=data.rows,
                last_at=data.last_at,
                online=False,
                author=caller.name,
                written_at=self._control.clock(),
                rules=data.rules,
                quarantined=[q.model_dump(mode="json") for q in data.quarantined],
            )
            session.add(push)
            self._control.audit.append(
                session,
                actor=caller.name,
                action="feature_view.push",
                object=f"feature_view/{group}/{name}@{row.version}",
                group=group,
                after=told,
                request_id=caller.request_id,
            )
            return view, push.id

    def merge(self, group: str, name: str) -> ViewData | None:
        """Make one file of what was applied and what was pushed since, for readers to see; None: there is neither.

        A push that is not online yet is left for the next time, with all after it: its record says that it is not.
        """
        with self._rows.changing(group, name):
            with self._control.db.read() as session:
                newest, *older = reversed(lookup.view_versions(session, group, name))
                session.expunge_all()
            whole = self._merge(newest, online=True)
            for row in older:  # pushes into versions whose rows the newest one cannot take
                with self._control.db.read() as session:
                    left = any(push.view_version == row.version for push in lookup.pushes(session, row))
                if left:
                    self._merge(row, online=True)
            return whole

    def judged(self, group: str, name: str, *, actor: str) -> ViewData | None:
        """The rows that readers see, each layer judged anew where the view expects something else by now.

        None: there are none. Raises Invalid as `judge` does; then nothing was changed.
        """
        with self._rows.changing(group, name):
            with self._control.db.read() as session:
                row = lookup.newest_view(session, group, name)
                session.expunge_all()
            return self._judge(row, lookup.view_model(row), actor=actor)

    def _judge(
        self, row: ViewRow, view: FeatureView, applied: ViewData | None = None, *, actor: str, request_id: str = ""
    ) -> ViewData | None:
        """The view's layers on record as it expects them now, the one that it comes with replaced by `applied`."""
        rules = rules_of(view.expect)
        seen, parts = self._state(row)
        if parts.pending and any(part.rules != rules for part in (*parts.pushed, *parts.pending)):
            self._merge(row)
            seen, parts = self._state(row)
        before = {"applied": parts.applied, "pushed": parts.pushed}
        anew = {
            layer: self._anew(row.group_name, view, part, some=layer == "pushed")
            for layer, found in before.items()
            for part in found
            if part.rules != rules and (layer == "pushed" or applied is None)
        }
        if applied is not None and not any(applied.same_as(part) for part in parts.applied):
            anew["applied"] = applied
        if not anew and (seen is None or seen.rules == rules):
            return seen
        pushed = bool(parts.pushed or parts.pending)
        with self._control.db.write() as session:
            self._still(session, row.group_name, view)
            for layer, data in anew.items():
                visible = layer == "applied" and not pushed
                session.add(_data_row(row, data, author=actor, layer=layer, visible=visible))
                self._control.audit.append(
                    session,
                    actor=actor,
                    action="feature_view.rows",
                    object=f"feature_view/{row.group_name}/{row.name}@{row.version}",
                    group=row.group_name,
                    before=next(map(_told, before[layer]), None),
                    after=_told(data),
                    request_id=request_id or None,
                )
        return self._merge(row) if pushed or not anew else anew["applied"]

    def _state(self, row: ViewRow) -> tuple[ViewData | None, Parts]:
        """What readers see of a view, and what it is made of."""
        with self._control.db.read() as session:
            seen = lookup.newest_data(session, row)
            return lookup.data_model(seen) if seen else None, Parts.of(session, row)

    def _anew(self, group: str, view: FeatureView, part: Part, *, some: bool) -> ViewData:
        """A layer's rows and those that were kept apart from them, judged as the view expects them now."""
        paths = [self._rows.path(group, view.name, part.sha256)]
        paths += [self._rows.quarantine(group, view.name, q) for q in part.quarantined]
        data = judge(view, paths, paths[0].parent, part=some, none=some and view.stream is not None)
        as_before = {"written_at": part.written_at, "left_out": part.left_out}
        return self._rows.kept(group, view.name, data).model_copy(update=as_before)

    def _merge(self, row: ViewRow, *, online: bool = False) -> ViewData | None:
        with self._control.db.read() as session:
            parts, before = Parts.of(session, row, online=online), lookup.parts(session, row.group_name, row.name)
        if not (parts.applied or parts.pushed or parts.pending):
            return None
        pushed = self._merged_pushes(row, [*parts.pushed, *parts.pending]) if parts.pending else None
        whole = self._merged(row, [*parts.applied, *([_part(row, pushed)] if pushed else parts.pushed)])
        with self._control.db.write() as session:
            if pushed is not None:
                session.add(_data_row(row, pushed, author=parts.author, layer="pushed", visible=False))
            session.add(_data_row(row, whole, author=parts.author, layer="both"))
            session.execute(delete(PushRow).where(PushRow.id.in_(parts.ids)))
            session.flush()
            self._forget(session, row)
        self._rows.swept(row.group_name, row.name, before)
        return whole

    def _forget(self, session: Session, row: ViewRow) -> None:
        """Take files off the record that nothing was made of and nothing needs."""
        of_view = (DataRow.group_name == row.group_name, DataRow.view == row.name)
        rows = session.scalars(select(DataRow).where(*of_view).order_by(DataRow.id)).all()
        newest = {(r.view_version, r.layer): r.id for r in rows}
        for r in rows:
            if not r.used and r.layer != "applied" and newest[r.view_version, r.layer] != r.id:
                session.delete(r)

    def _merged_pushes(self, row: ViewRow, parts: Sequence[Part]) -> ViewData:
        """One file of several, and one of what was kept apart from them."""
        group, name, data = row.group_name, row.name, self._merged(row, parts)
        for quarantine in data.quarantined:
            self._rows.quarantine(group, name, quarantine)
        return self._rows.kept(group, name, together(lookup.view_model(row), self._rows.folder(group, name), data))

    def _merged(self, row: ViewRow, parts: Sequence[Part]) -> ViewData:
        """One file of several."""
        view = lookup.view_model(row)
        paths = [self._rows.path(row.group_name, row.name, part.sha256) for part in parts]
        if len(paths) == 1:
            return describe(view, paths[0]).made_of(parts)
        data = merge(view, paths, paths[0].parent)[1]
        return self._rows.kept(row.group_name, row.name, data).made_of(parts)

    def _take_in(
        self,
        group: str,
        name: str,
        draft: Path,
        sha256: str | None,
        *,
        part: bool = False,
        none: bool = False,
        left_out: Mapping[str, int],
    ) -> tuple[FeatureView, ViewData]:
        """Rows that fit the view's newest version, without entities that were erased, judged."""
        drafts = [draft]
        try:
            view = self._rows.verified(group, name, draft, sha256)
            check_left_out(view, left_out)
            drafts += self._erasing.keep_out(group, view, draft)
            data = judge(view, drafts[-1:], self._rows.folder(group, name), part=part, none=none)
            return view, self._rows.kept(group, name, data.model_copy(update={"left_out": left_out}))
        finally:
            for left in drafts:
                left.unlink(missing_ok=True)

    def _still(self, session: Session, group: str, view: FeatureView) -> ViewRow:
        row = lookup.newest_view(session, group, view.name)
        if row.version != view.version:
            raise Invalid(f"'{view.name}' was changed meanwhile.", "Apply it again.")
        return row


def _data_row(view: ViewRow, data: ViewData, *, author: str, layer: str, visible: bool = True) -> DataRow:
    """A file of a view on record."""
    return DataRow(
        id=new_ulid(),
        group_name=view.group_name,
        view=view.name,
        view_version=view.version,
        author=author,
        layer=layer,
        visible=visible,
        used=False,
        **data.model_dump(),
    )


def _part(view: ViewRow, data: ViewData) -> Part:
    return Part(
        data.sha256, data.rows, view.version, data.written_at, data.rules, data.quarantined, dict(data.left_out)
    )


def _told(data: ViewData | Part) -> dict[str, Any]:
    """For the audit."""
    apart = [q.model_dump(include={"sha256", "rows"}) for q in data.quarantined]
    return {"sha256": data.sha256, "rows": data.rows, "quarantined": apart, "left_out": dict(data.left_out)}
