"""Artifacts: exported models, one file each, stored under the SHA-256 of their bytes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from themisto.errors import Failed, Invalid, NotFound, Unavailable
from themisto.types import new_ulid

__all__ = ["MAX_BYTES", "ArtifactStore"]

MAX_BYTES = 2 * 1024**3
_BUFFER = 1 << 20
_PARTIAL = ".part"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ArtifactStore:
    """Content-addressed files below one folder that only the control plane reads.

    A file is there whole and verified, or not at all: bytes are written aside, hashed on the way,
    and renamed when they are what their name says.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = MAX_BYTES,
        noun: str = "artifact",
        smaller: str = "Export a smaller model.",
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._noun = noun
        self._smaller = smaller

    async def put(self, sha256: str, chunks: AsyncIterator[bytes], *, declared_bytes: int | None = None) -> bool:
        """Store a stream under `sha256`; False when it was there already.

        Raises Invalid if the bytes are not what the name says or too many, Unavailable on a full disk.
        """
        if declared_bytes is not None and declared_bytes > self._max_bytes:
            raise self._too_large()
        if self.exists(sha256):
            return False
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = self._folder / f"{new_ulid()}{_PARTIAL}"
        try:
            await self._receive(scratch, sha256, chunks)
            await asyncio.to_thread(scratch.replace, self._file(sha256))
        except OSError as error:
            raise _full_or_broken(error) from error
        finally:
            scratch.unlink(missing_ok=True)
        return True

    async def _receive(self, scratch: Path, sha256: str, chunks: AsyncIterator[bytes]) -> None:
        digest, size, buffer = hashlib.sha256(), 0, bytearray()
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

        def flush(*, last: bool = False) -> None:
            digest.update(buffer)
            view = memoryview(buffer)
            while view:
                view = view[os.write(descriptor, view) :]
            if last:
                os.fsync(descriptor)

        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_large()
                buffer += chunk
                if len(buffer) >= _BUFFER:
                    await asyncio.to_thread(flush)
                    buffer = bytearray()
            await asyncio.to_thread(flush, last=True)
        finally:
            os.close(descriptor)
        if size == 0 or digest.hexdigest() != sha256:
            raise Invalid(
                f"The bytes sent have the SHA-256 {digest.hexdigest()[:12]}…, not {sha256[:12]}…",
                "Send the file again: it was changed or cut on the way.",
            )

    def exists(self, sha256: str) -> bool:
        return self._file(sha256).is_file()

    def size_bytes(self, sha256: str) -> int:
        """Raises NotFound."""
        try:
            return self._file(sha256).stat().st_size
        except FileNotFoundError:
            raise self._missing(sha256) from None

    def path(self, sha256: str) -> Path:
        """Its file, for a server that streams it. Raises NotFound."""
        self.size_bytes(sha256)
        return self._file(sha256)

    def read(self, sha256: str) -> bytes:
        """The artifact, verified again. Raises NotFound, or Failed if the file was changed on disk."""
        try:
            data = self._file(sha256).read_bytes()
        except FileNotFoundError:
            raise self._missing(sha256) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Failed(f"The stored {self._noun} {sha256[:12]}… was changed on disk.", "Restore it from the backup.")
        return data

    def sweep(self, keep: Collection[str], *, older_than_s: float = 86_400) -> int:
        """Delete half-written files and artifacts that no release names, a day after their upload."""
        if not self._folder.is_dir():
            return 0
        deleted, limit = 0, time.time() - older_than_s
        for file in self._folder.iterdir():
            if file.name not in keep and file.stat().st_mtime < limit:
                file.unlink(missing_ok=True)
                deleted += 1
        return deleted

    def _file(self, sha256: str) -> Path:
        return self._folder / sha256

    def _too_large(self) -> Invalid:
        limit = f"{self._max_bytes / 1024**3:g} GiB"
        return Invalid(f"The {self._noun} is larger than {limit}, the most that is stored.", self._smaller)

    def _missing(self, sha256: str) -> NotFound:
        return NotFound(f"There is no {self._noun} {sha256[:12]}…", "Upload it first.")


def _full_or_broken(error: OSError) -> Exception:
    if error.errno in _FULL:
        return Unavailable(
            "The disk of the control plane is full; nothing was stored.",
            "Tell the platform team, then run the same cell again.",
        )
    return Unavailable(f"The artifact could not be stored: {error.strerror}.", "Run the same cell again in a moment.")
