"""The offline store: each view's rows as Parquet files by digest, one folder a group."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from threading import RLock

from sqlalchemy import update

from themisto.errors import Invalid, MissingSetting, NotFound, Unavailable
from themisto.features.judging import quarantine_file
from themisto.features.models import FeatureView
from themisto.features.records import Quarantine
from themisto.features.rowfile import digest_file, sweep, verify
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.tables import DataRow, RewrittenRow
from themisto_hub.settings import Deployment

__all__ = ["Rows"]

_MAX_BYTES = 8 * 2**30


def offline_folder(settings: Deployment) -> Path:
    """Where the files are. Raises MissingSetting for a store that this control plane cannot write."""
    url = settings.offline_store
    if url is None:
        return settings.folder("control") / "offline"
    if not url.startswith("file:///"):
        raise MissingSetting(f"The offline store {url.partition(':')[0]}:// is not there yet.", "Use file:///path.")
    return Path(url.removeprefix("file://"))


class Rows:
    """Takes rows in, verified, and gives them out."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._folder = offline_folder(control.settings)
        self.changing = RLock()
        """Held by whoever changes which files a view has."""

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
        path = self.path(group, name, digest)
        if not digest or not path.is_file():
            raise NotFound(f"The view '{name}' has no such rows.", "Apply it together with its source.")
        return path

    def path(self, group: str, name: str, sha256: str) -> Path:
        """Where the rows of a digest are."""
        return self.folder(group, name) / f"{sha256}.parquet"

    def quarantine(self, group: str, name: str, quarantine: Quarantine) -> Path:
        """Where quarantined rows are."""
        return quarantine_file(self.folder(group, name), quarantine)

    def folder(self, group: str, name: str) -> Path:
        """Where all files of a view are."""
        return self._folder / group / name

    def sweep(self, group: str, name: str) -> None:
        """Remove files of a view that are not on record, those too that a killed process left; hold `changing`."""
        with self._control.db.read() as session:
            parts = lookup.parts(session, group, name)
        kept = {self.path(group, name, part.sha256) for part in parts}
        kept |= {self.quarantine(group, name, q) for part in parts for q in part.quarantined}
        folder = self.folder(group, name)
        for path in (*folder.glob("*"), *folder.glob("quarantine/*")):
            if path.is_file() and path not in kept:
                path.unlink()
        for drafts in folder.glob("judging-*"):
            shutil.rmtree(drafts)


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
