"""The files of views' rows: Parquet by digest, one folder a group, in whatever store there is (`offline`)."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from threading import RLock

from sqlalchemy import update

from themisto.errors import Failed, Invalid, NotFound, ThemistoError, Unavailable
from themisto.features.judging import quarantine_file
from themisto.features.models import FeatureView
from themisto.features.records import Quarantine, ViewData
from themisto.features.rowfile import digest_file, sweep, verify
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.lookup import Part
from themisto_hub.control.features.offline import offline_store
from themisto_hub.control.features.tables import DataRow, RewrittenRow

__all__ = ["Rows"]

_log = logging.getLogger(__name__)

_MAX_BYTES = 8 * 2**30
_STRAY = timedelta(hours=1)
"""What is stored for longer and not on record was left by a killed process; until then another may be about to."""


class Rows:
    """Takes rows in, verified, and gives them out."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._store = offline_store(control.settings)
        self._folder = self._store.folder
        self._changing: dict[tuple[str, str], RLock] = {}

    def changing(self, group: str, name: str) -> RLock:
        """Held by whoever changes which files a view has."""
        return self._changing.setdefault((group, name), RLock())

    async def receive(self, group: str, body: AsyncIterator[bytes]) -> Path:
        """Write a request's body to a draft below the group's folder. Raises Invalid where it is too long."""
        draft = await asyncio.to_thread(self._draft, group)
        try:
            await _write(draft, body)
        except OSError as error:
            raise Unavailable(f"The rows cannot be stored: {error.strerror}.", "Tell the platform team.") from error
        return draft

    def _draft(self, group: str) -> Path:
        folder = self._folder / group
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(folder)
        handle, draft = tempfile.mkstemp(".draft", dir=folder)
        os.close(handle)
        return Path(draft)

    def verified(self, group: str, name: str, draft: Path, sha256: str | None) -> FeatureView:
        """The newest version of the view, whose rows a draft has as they were sent. Raises Invalid where not."""
        with self._control.db.read() as session:
            view = lookup.view_model(lookup.newest_view(session, group, name))
        verify(view, draft)
        if sha256 is not None and digest_file(draft) != sha256:
            raise Invalid("The rows came damaged: their digest differs.", "Send them again.")
        return view

    def file(self, caller: Caller, group: str, name: str, sha256: str | None = None) -> Path:
        """A view's rows, the newest ones or those of a digest it has had; the export is one audit event."""
        found = self.use(group, name, sha256)
        with self._control.db.write() as session:
            self._control.audit.append(
                session,
                actor=caller.name,
                action="feature_view.export",
                object=f"feature_view/{group}/{name}",
                group=group,
                after={"sha256": found.stem},
                request_id=caller.request_id,
            )
        return found

    def use(self, group: str, name: str, sha256: str | None = None) -> Path:
        """As `find`, and the file is kept from now on: something was made of it."""
        found = self.find(group, name, sha256)
        of_file = (DataRow.group_name == group, DataRow.view == name, DataRow.sha256 == found.stem)
        with self._control.db.write() as session:
            session.execute(update(DataRow).where(*of_file, DataRow.used.is_(False)).values(used=True))
        return found

    def find(self, group: str, name: str, sha256: str | None = None) -> Path:
        """The file, without a trace. Raises NotFound."""
        with self._control.db.read() as session:
            data = lookup.newest_data(session, lookup.newest_view(session, group, name))
            digest = sha256 or (data.sha256 if data else "")
            rewritten = session.get(RewrittenRow, (group, name, digest))
            if rewritten is not None:
                raise NotFound(
                    f"Rows of '{name}' were written anew on {rewritten.at:%Y-%m-%d}: somebody in them was erased.",
                    f"What is left of them is {rewritten.became}.",
                )
            on_record = bool(lookup.data_rows(session, group, name, digest))
        path = self.held(group, name, digest) if digest else None
        if path is None and on_record:
            raise self._missing(self._at(group, name, digest))
        if path is None:
            raise NotFound(f"The view '{name}' has no such rows.", "Apply it together with its source.")
        return path

    def path(self, group: str, name: str, sha256: str) -> Path:
        """Where the rows of a digest are, which is on record. Raises Failed where they are not in the store."""
        return self._brought(self._at(group, name, sha256))

    def quarantine(self, group: str, name: str, quarantine: Quarantine) -> Path:
        """The same of quarantined rows."""
        return self._brought(quarantine_file(self.folder(group, name), quarantine))

    def held(self, group: str, name: str, digest: str | Quarantine) -> Path | None:
        """The file of rows, or of quarantined ones; None where the store has none."""
        if isinstance(digest, str):
            path = self._at(group, name, digest)
        else:
            path = quarantine_file(self.folder(group, name), digest)
        return path if self._store.bring(path) else None

    def kept(self, group: str, name: str, data: ViewData) -> ViewData:
        """Have new files in the store; for whoever has made some, before they are on record. Raises Unavailable."""
        for path in self._files(group, name, data):
            self._store.keep(path)
        return data

    def kept_apart(self, group: str, name: str, quarantine: Quarantine) -> None:
        """The same of a quarantine that was made anew."""
        self._store.keep(quarantine_file(self.folder(group, name), quarantine))

    def folder(self, group: str, name: str) -> Path:
        """Where work on a view's files is done, and where they are at hand."""
        return self._folder / group / name

    def check(self) -> None:
        """Tell the log what is wrong with the store: it may come right, and all but rows goes on without it."""
        try:
            self._store.check()
        except ThemistoError as error:
            _log.error("offline store: %s", error)

    def swept(self, group: str, name: str, before: Iterable[Part]) -> None:
        """As `sweep`, for whoever has done what was asked for: what is left now, the next sweep finds."""
        try:
            self.sweep(group, name, before)
        except Unavailable as error:
            _log.warning("files of %s/%s that are not needed stay for now: %s", group, name, error)

    def sweep(
        self, group: str, name: str, before: Iterable[Part], suspect: Callable[[Path], bool] | None = None
    ) -> None:
        """Remove files of a view that are not on record, those too that a killed process left; hold `changing`.

        What came lately may be of another process that is about to put it on record. It stays, unless it was on
        record `before`, or is `suspect`.
        """
        folder = self.folder(group, name)
        stored = self._store.files(folder)
        kept = self._on_record(group, name)
        gone = {path for part in before for path in self._files(group, name, part)}
        latest = self._control.clock() - _STRAY
        for path, at in stored.items():
            if path in kept:
                continue
            if at is None or at < latest or path in gone or (suspect and self._store.bring(path) and suspect(path)):
                self._store.remove(path)
        for drafts in folder.glob("judging-*"):
            shutil.rmtree(drafts)

    def tidy(self) -> None:
        """Have no copies of files that are off the record by now, whoever did that, and no more than there may be."""
        for folder in self._store.cached():
            view = folder.parent.name, folder.name
            with self.changing(*view):
                kept = self._on_record(*view)
                for path in (*folder.glob("*.parquet"), *folder.glob("quarantine/*.parquet")):
                    if path not in kept:
                        path.unlink(missing_ok=True)
        self._store.trim()

    def _at(self, group: str, name: str, sha256: str) -> Path:
        return self.folder(group, name) / f"{sha256}.parquet"

    def _files(self, group: str, name: str, part: Part | ViewData) -> list[Path]:
        apart = [quarantine_file(self.folder(group, name), q) for q in part.quarantined]
        return [self._at(group, name, part.sha256), *apart]

    def _on_record(self, group: str, name: str) -> set[Path]:
        with self._control.db.read() as session:
            parts = lookup.parts(session, group, name)
        return {path for part in parts for path in self._files(group, name, part)}

    def _brought(self, path: Path) -> Path:
        if not self._store.bring(path):
            raise self._missing(path)
        return path

    def _missing(self, path: Path) -> Failed:
        view = path.relative_to(self._folder).parts[1]
        return Failed(
            f"Rows of '{view}' ({path.stem[:12]}…) are on record, but not in {self._store.where}.",
            "Copy them there from where they were: docs/feature-offline.md.",
        )


async def _write(draft: Path, body: AsyncIterator[bytes]) -> None:
    """The body into the file; a body that does not end well leaves none."""
    size = 0
    try:
        with await asyncio.to_thread(draft.open, "wb") as file:
            async for chunk in body:
                size += len(chunk)
                if size > _MAX_BYTES:
                    raise Invalid("The rows are over 8 GiB.", "Keep fewer columns, or a shorter history.")
                file.write(chunk)  # into the page cache: not worth a thread
    except BaseException:
        draft.unlink(missing_ok=True)  # noqa: ASYNC240 - one call, and cancelled tasks cannot wait
        raise
