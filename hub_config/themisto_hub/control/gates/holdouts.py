"""Hold-outs: labelled rows of a group, stored by their digest, that releases are judged on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from themisto.errors import Conflict, Invalid, NotFound
from themisto.serving.gates import Quality
from themisto.serving.holdout import MAX_BYTES, HoldOut, HoldOutRequest
from themisto.serving.models import ReleaseRequest
from themisto.types import Slug
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.gates.tables import HoldOutRow, PolicyRow
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.guard import recorded_refusals
from themisto_hub.control.serving.moves import RECONCILER
from themisto_hub.control.serving.tables import ReleaseRow

__all__ = ["HoldOuts", "holdout_row"]

_KEPT = timedelta(days=1)
_MOST_DIGESTS = 100
_SLUG: TypeAdapter[str] = TypeAdapter(Slug)


class HoldOuts:
    """Keeps their bytes and whose they are. Rows are never parsed here, and never handed out."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._folder = control.settings.folder("control") / "holdouts"

    def files(self, group: str) -> ArtifactStore:
        """A group's files, apart from other groups': knowing a digest is not having the rows."""
        folder = self._folder / _SLUG.validate_python(group)
        return ArtifactStore(folder, max_bytes=MAX_BYTES, noun="hold-out", smaller="Give fewer rows.")

    async def upload(
        self, caller: Caller, group: str, sha256: str, body: AsyncIterator[bytes], declared_bytes: int | None
    ) -> bool:
        """The bytes; False where they were there. They go again after a day unless a release names them.

        Raises Refused for another group, Invalid, Unavailable.
        """
        with recorded_refusals(self._control, caller, "holdout.store", f"holdout/{sha256}"):
            caller.require_group(group)
        return await self.files(group).put(sha256, body, declared_bytes=declared_bytes)

    def register(self, caller: Caller, request: HoldOutRequest) -> HoldOut:
        """The bytes become the group's hold-out; the same rows may come from several frames, whose digests all count.

        Raises Refused for another group, NotFound where the bytes are not there.
        """
        with recorded_refusals(self._control, caller, "holdout.store", f"holdout/{request.sha256}"):
            caller.require("deploy")
            caller.require_group(request.group)
        size = self.files(request.group).size_bytes(request.sha256)
        try:
            return self._register(caller, request, size)
        except IntegrityError as error:  # the same rows at the same moment
            raise Conflict("The hold-out was stored at the same moment.", "Run the same cell again.") from error

    def _register(self, caller: Caller, request: HoldOutRequest, size: int) -> HoldOut:
        with self._control.db.write() as session:
            row = session.get(HoldOutRow, (request.sha256, request.group), with_for_update=True)
            if row is None:
                row = HoldOutRow(sha256=request.sha256, group_name=request.group, digests=[])
                session.add(row)
            row.name, row.rows, row.columns, row.size_bytes = request.name, request.rows, list(request.columns), size
            row.digests = list(dict.fromkeys([*request.digests, *row.digests]))[:_MOST_DIGESTS]
            row.stored_by, row.stored_at = caller.name, self._control.clock()
            session.flush()
            self._control.audit.append(
                session,
                actor=caller.name,
                action="holdout.store",
                object=f"holdout/{request.sha256}",
                group=request.group,
                after={"name": row.name, "rows": row.rows, "columns": row.columns, "size_bytes": size},
                request_id=caller.request_id,
            )
            return _model(row)

    def page(self, caller: Caller, group: str, *, limit: int = 100) -> list[HoldOut]:
        """The group's, newest first. Raises Refused."""
        caller.require_group(group)
        query = select(HoldOutRow).where(HoldOutRow.group_name == group)
        with self._control.db.read() as session:
            return [_model(row) for row in session.scalars(query.order_by(HoldOutRow.stored_at.desc()).limit(limit))]

    def _forget(self, session: Session, row: HoldOutRow) -> None:
        session.delete(row)
        self._control.audit.append(
            session,
            actor=RECONCILER,
            action="holdout.forget",
            object=f"holdout/{row.sha256}",
            group=row.group_name,
            after={"name": row.name, "reason": "no release names it"},
        )

    def check(self, request: ReleaseRequest) -> None:
        """Before a release is recorded: its hold-out is there, is its group's, and is not what it was fitted on."""
        if request.quality is None:
            return
        with self._control.db.read() as session:
            row = holdout_row(session, request.quality, request.group)
            if row.rows != request.quality.rows:
                raise Invalid(f"The hold-out has {row.rows:,} rows, not {request.quality.rows:,}.", "Deploy again.")
            if request.data_sha256 is not None and request.data_sha256 in row.digests:
                raise Invalid(
                    "The hold-out is the training data: its digest is that of the run's data.",
                    "Give rows that the model has not seen.",
                )

    def sweep(self) -> int:
        """Delete what no release and no pinned gate names, a day after it was stored; the number of files."""
        keep: dict[str, set[str]] = {}
        with self._control.db.write() as session:
            named = _named(session)
            for row in session.scalars(select(HoldOutRow)):
                if row.sha256 in named or self._control.clock() - row.stored_at < _KEPT:
                    keep.setdefault(row.group_name, set()).add(row.sha256)
                else:
                    self._forget(session, row)
        groups = [folder.name for folder in self._folder.iterdir()] if self._folder.is_dir() else []
        return sum(self.files(group).sweep(keep.get(group, ())) for group in groups)


def _named(session: Session) -> set[str]:
    """Digests of hold-outs that a release records or an endpoint has ever pinned."""
    digest = ("quality", "holdout_sha256")
    of_releases = session.scalars(select(ReleaseRow.content[digest].as_string()).distinct())
    of_policies = session.scalars(select(PolicyRow.quality["holdout_sha256"].as_string()).distinct())
    return {found for found in (*of_releases, *of_policies) if found is not None}


def holdout_row(session: Session, quality: Quality, group: str) -> HoldOutRow:
    """The group's stored hold-out. Raises NotFound; Invalid where a column that is named is not in it."""
    row = session.get(HoldOutRow, (quality.holdout_sha256, group))
    if row is None:
        raise NotFound(
            f"The group '{group}' has no hold-out {quality.holdout_sha256[:12]}…", "Give the rows: --holdout VAR."
        )
    missing = [name for name in (quality.label, *quality.by) if name not in row.columns]
    if missing:
        raise Invalid(
            f"The hold-out '{row.name}' has no column '{missing[0]}'.",
            f"It has: {', '.join(row.columns[:20])}{', …' if len(row.columns) > 20 else ''}.",
        )
    return row


def _model(row: HoldOutRow) -> HoldOut:
    return HoldOut(
        sha256=row.sha256,
        group=row.group_name,
        name=row.name,
        rows=row.rows,
        columns=tuple(row.columns),
        digests=tuple(row.digests),
        size_bytes=row.size_bytes,
        stored_by=row.stored_by,
        stored_at=row.stored_at,
    )
