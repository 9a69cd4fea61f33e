"""Rows on S3: the bucket has the files, a folder before it copies of those in use.

A file goes to the bucket before anything on record refers to it, and is read through the folder: fetched once, its
digest verified. So an empty folder, on a new machine or after a fault, is no loss.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from themisto.errors import Failed, Unavailable
from themisto.features.rowfile import sweep
from themisto_hub.control.features.offline import Folder
from themisto_hub.control.features.s3_settings import S3Settings

if TYPE_CHECKING:
    from pyarrow import fs

__all__ = ["S3"]

_PIECE = 16 * 2**20
_SMALL = 4 * 2**20
"""Less than a part: Arrow sends it in one request."""
_IN_USE_S = 3600.0
"""A copy that was asked for within so many seconds may be about to be read."""
_log = logging.getLogger(__name__)

_CODES = (r"ExceptionName: (\w+)", r"AWS Error (?!UNKNOWN)(\w+)", r"(HTTP \D*\d+)")
_LATER = "Nothing was changed; try again later."
_SAID = (
    ("NO_SUCH_BUCKET", "There is no bucket '{bucket}'.", "Make it, or correct THEMISTO_OFFLINE_STORE."),
    (
        "INVALID_ACCESS_KEY_ID|SIGNATURE|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT|ExpiredToken|InvalidToken",
        "S3 does not know the control plane's credentials ({code}).",
        "Renew AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or its role.",
    ),
    (
        "ACCESS_DENIED|HTTP status 403",
        "S3 refuses {where} to the control plane.",
        "Allow it s3:ListBucket, GetObject, PutObject, DeleteObject and AbortMultipartUpload there.",
    ),
    (
        "HTTP status 30[17]|bucket is located in|AuthorizationHeaderMalformed",
        "The bucket '{bucket}' is in another region than {region}.",
        "Say ?region=… in THEMISTO_OFFLINE_STORE.",
    ),
    ("NETWORK_CONNECTION", "S3 at {host} does not answer.", _LATER),
    ("SLOW_DOWN|SERVICE_UNAVAILABLE|THROTTLING|HTTP status 503", "S3 at {host} takes no more requests now.", _LATER),
    ("", "S3 at {host} answered {code}.", "The control plane's log has its words."),
)
"""Signs in what Arrow says, and what is said of it to people."""


class _NoFile(Failed):
    """The bucket is there, the file is not."""


class S3(Folder):
    """Files below a prefix of a bucket, laid out as in a folder; others' keys are never touched."""

    def __init__(self, settings: S3Settings, folder: Path) -> None:
        super().__init__(folder)
        self._settings = settings
        self._root = "/".join(filter(None, (settings.bucket, settings.prefix)))
        self.where = f"s3://{self._root}"

    @classmethod
    def from_url(cls, url: str, folder: Path) -> S3:
        return cls(S3Settings.from_url(url), folder)

    @cached_property
    def _fs(self) -> fs.S3FileSystem:
        return self._settings.opened()

    def check(self) -> None:
        from pyarrow import fs

        with self._told():
            self._fs.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
            self._check_bucket()

    def bring(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            os.utime(path)  # it is in use
            return True
        group = self.folder / path.relative_to(self.folder).parts[0]  # whoever sweeps a view's folder leaves it
        with self._told():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(group)
            handle, name = tempfile.mkstemp(".draft", dir=group)
        draft = Path(name)
        try:
            with self._told(), os.fdopen(handle, "wb") as file:
                digest = hashlib.sha256()
                with self._fs.open_input_stream(self._key(path)) as source:
                    while piece := source.read(_PIECE):
                        digest.update(piece)
                        file.write(piece)
            if digest.hexdigest() != path.stem:
                raise Failed(
                    f"{self._url(path)} is damaged: its digest differs.", "Restore it: an earlier version, or a backup."
                )
            draft.replace(path)
        except _NoFile:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def keep(self, path: Path) -> None:
        size = path.stat().st_size
        try:
            with self._told():
                if size < _SMALL:
                    self._put_whole(path)
                elif self._size(path) != size:
                    self._put_in_parts(path, size)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _put_whole(self, path: Path) -> None:
        """In one request: all or nothing, whatever was there."""
        body = path.read_bytes()
        with self._fs.open_output_stream(self._key(path)) as out:
            out.write(body)

    def _put_in_parts(self, path: Path, size: int) -> None:
        try:
            with path.open("rb") as source, self._fs.open_output_stream(self._key(path)) as out:
                shutil.copyfileobj(source, out, _PIECE)
            if self._size(path) != size:
                raise Unavailable(f"{self._url(path)} did not arrive whole.", "Try again.")
        except BaseException:
            with suppress(OSError):  # what Arrow makes of the parts when it closes: it is not on record
                self._fs.delete_file(self._key(path))
            raise

    def files(self, view: Path) -> Mapping[Path, datetime | None]:
        from pyarrow import fs

        with self._told():
            found = self._fs.get_file_info(fs.FileSelector(self._key(view), recursive=True, allow_not_found=True))
            if not found:
                self._check_bucket()
        stored = {
            view / info.path.removeprefix(f"{self._key(view)}/"): info.mtime
            for info in found
            if info.is_file and info.path.endswith(".parquet")
        }
        return {**super().files(view), **stored}

    def remove(self, path: Path) -> None:
        super().remove(path)
        with suppress(_NoFile), self._told():
            self._fs.delete_file(self._key(path))

    def cached(self) -> list[Path]:
        return [path for path in self.folder.glob("*/*") if path.is_dir()]

    def trim(self) -> None:
        copies = []
        for path in self.folder.rglob("*.parquet"):
            with suppress(FileNotFoundError):
                state = path.stat()
                copies.append((state.st_mtime, state.st_size, path))
        size, unused = sum(copy[1] for copy in copies), time.time() - _IN_USE_S
        for used, bytes_, path in sorted(copies):
            if size <= self._settings.cache_gib * 2**30 or used > unused:
                break
            path.unlink(missing_ok=True)
            size -= bytes_

    def _key(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self.folder).as_posix()}"

    def _url(self, path: Path) -> str:
        return f"s3://{self._key(path)}"

    def _size(self, path: Path) -> int | None:
        size: int | None = self._fs.get_file_info(self._key(path)).size
        return size

    def _check_bucket(self) -> None:
        """Arrow does not tell a bucket that is not there from a file that is not."""
        from pyarrow import fs

        if self._fs.get_file_info(self._settings.bucket).type == fs.FileType.NotFound:
            raise self._said("NO_SUCH_BUCKET")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of Arrow as ours. What S3 answered goes to the log; of it the code alone to people."""
        try:
            yield
        except FileNotFoundError:
            with self._told():
                self._check_bucket()
            raise _NoFile("There is no such file.") from None
        except OSError as error:
            if error.errno is not None:
                raise Unavailable(f"The rows cannot be stored: {error.strerror}.", "Tell the platform team.") from error
            text = self._cause() if "No response body" in str(error) else str(error)
            _log.warning("%s: %s", self.where, text or error)
            raise self._said(text or str(error)) from None

    def _cause(self) -> str:
        """What S3 refuses without a word to HEAD it may say to GET."""
        from pyarrow import fs

        try:
            self._fs.get_file_info(fs.FileSelector(self._root, allow_not_found=True))
        except OSError as error:
            return str(error)
        return ""

    def _said(self, text: str) -> Unavailable:
        codes = (re.search(sign, text) for sign in _CODES)
        detail, remedy = next((detail, remedy) for sign, detail, remedy in _SAID if re.search(sign, text))
        known = {
            "bucket": self._settings.bucket,
            "where": self.where,
            "host": self._settings.endpoint or "its region's address",
            "region": self._fs.region,
            "code": next((found[1] for found in codes if found), "what Arrow does not know"),
        }
        return Unavailable(detail.format(**known), remedy)
