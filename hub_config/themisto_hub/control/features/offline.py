"""Where the files of rows are for good: a folder, or a bucket of S3 with a folder before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from themisto.errors import MissingSetting
from themisto_hub.settings import Deployment

__all__ = ["Folder", "Offline", "offline_store"]


class Offline(Protocol):
    """Files that never change: each is named by its digest, so that it is there whole or not at all.

    All work on files happens in `folder`; paths are below it. Methods raise Unavailable while the store does not
    answer.
    """

    folder: Path
    where: str
    """The store, in words for people: no secret."""

    def check(self) -> None:
        """Raises Unavailable with what is wrong with the store, as far as it shows before the first row."""

    def bring(self, path: Path) -> bool:
        """Have a file in the folder; False: the store has none. Raises Failed for one that is damaged."""

    def keep(self, path: Path) -> None:
        """Have a file of the folder in the store, before anything on record refers to it."""

    def files(self, view: Path) -> Mapping[Path, datetime | None]:
        """The files in the folder of a view: when each was stored, None where that was for nobody but us."""

    def remove(self, path: Path) -> None:
        """Have a file no more, neither in the store nor in the folder."""

    def cached(self) -> list[Path]:
        """The folders of views with files that are copies of what the store has."""

    def trim(self) -> None:
        """Have no more copies than there may be; those in use stay."""


class Folder:
    """The folder is the store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where = f"file://{folder}"

    def check(self) -> None:
        """There is nothing to ask: the folder is made with its first file."""

    def bring(self, path: Path) -> bool:
        return path.is_file()

    def keep(self, path: Path) -> None:
        """It is there."""

    def files(self, view: Path) -> Mapping[Path, datetime | None]:
        return {path: None for path in (*view.glob("*"), *view.glob("quarantine/*")) if path.is_file()}

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def cached(self) -> list[Path]:
        return []

    def trim(self) -> None:
        """There are no copies."""


def offline_store(settings: Deployment) -> Offline:
    """The store that the setting names. Raises MissingSetting for a URL that is none, without repeating it."""
    from themisto_hub.control.features.s3 import S3

    url, folder = settings.offline_store, settings.folder("control") / "offline"
    if url is None:
        return Folder(folder)
    if url.startswith("s3://"):
        return S3.from_url(url, folder.with_name("offline-cache"))
    if url.startswith("file:///"):
        return Folder(Path(url.removeprefix("file://")))
    scheme = url.partition(":")[0] if "://" in url else "…"
    raise MissingSetting(
        f"THEMISTO_OFFLINE_STORE names no store of rows: {scheme[:16]}://.",
        "Write file:///path or s3://bucket/prefix.",
    )
