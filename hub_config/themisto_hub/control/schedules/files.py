"""Files of schedules: snapshots under their SHA-256, outputs under their job."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from themisto.errors import Invalid, NotFound, Unavailable
from themisto.types import new_ulid

__all__ = ["OUTPUTS", "Files"]

OUTPUTS = ("output.ipynb", "output.html")
"""What a job may leave, and what a person may fetch."""

_MAX_BYTES = {"snapshot": 64 * 2**20, "output": 256 * 2**20}


class Files:
    """Below one folder that only the control plane reads; a file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._snapshots = folder / "snapshots"
        self._outputs = folder / "outputs"

    async def put_snapshot(self, sha256: str, chunks: AsyncIterator[bytes]) -> bool:
        """Store the bytes that have this digest; False where they were there already. Raises Invalid."""
        target = self._snapshots / sha256
        if target.is_file():
            target.touch()
            return False
        await _receive(chunks, target, "snapshot", sha256)
        return True

    def snapshot(self, sha256: str) -> Path:
        """Raises NotFound."""
        path = self._snapshots / sha256
        if not path.is_file():
            raise NotFound(
                f"There is no snapshot {sha256[:12]}…", "Upload it first: PUT /schedules/snapshots/{sha256}."
            )
        return path

    async def put_output(self, job: str, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Keep what a job leaves; a later try's file takes the earlier one's place."""
        await _receive(chunks, self._output(job, name), "output", None)

    def output(self, job: str, name: str) -> Path:
        """Raises NotFound."""
        path = self._output(job, name)
        if not path.is_file():
            raise NotFound(f"The job has left no {name}.", "It is there once a try has ended.")
        return path

    def forget(self, jobs: Collection[str]) -> None:
        """Remove the outputs of these jobs."""
        for job in jobs:
            shutil.rmtree(self._outputs / job, ignore_errors=True)

    def sweep(self, keep: Collection[str], *, older_than_s: float = 86_400) -> None:
        """Remove snapshots that no schedule or job names, a day after their upload."""
        if not self._snapshots.is_dir():
            return
        limit = time.time() - older_than_s
        for file in self._snapshots.iterdir():
            if file.name not in keep and file.stat().st_mtime < limit:
                file.unlink(missing_ok=True)

    def _output(self, job: str, name: str) -> Path:
        if name not in OUTPUTS:
            raise NotFound(f"A job has no '{name}'.", f"It has: {', '.join(OUTPUTS)}.")
        return self._outputs / job / name


async def _receive(chunks: AsyncIterator[bytes], target: Path, what: str, sha256: str | None) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = target.with_name(f".{new_ulid()}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with scratch.open("xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > _MAX_BYTES[what]:
                    limit = _MAX_BYTES[what] // 2**20
                    raise Invalid(f"The {what} is larger than {limit} MiB.", "Read large data from where it lies.")
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise Invalid("The bytes sent are not what their digest says.", "Send the file again.")
        scratch.replace(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "its disk is full" if full else str(error.strerror)
        raise Unavailable(f"The {what} could not be stored: {reason}.", "Try again in a moment.") from error
    finally:
        scratch.unlink(missing_ok=True)
