"""Packed: several files as one artifact, the same bytes for the same files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath

from themisto.errors import Invalid

__all__ = ["pack", "unpack"]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_FILES = 200
_MAX_UNPACKED_BYTES = 256 * 2**20


def pack(files: Mapping[str, str | bytes]) -> bytes:
    """A zip without times and without permissions of this machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, compress_type=zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack(artifact: bytes, *needed: str) -> dict[str, bytes]:
    """The files by path. Raises Invalid for what is no zip, lacks a file, is too large, or leaves its folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
            if len(entries) > _MAX_FILES or sum(e.file_size for e in entries) > _MAX_UNPACKED_BYTES:
                raise Invalid("The artifact unpacks to more than 256 MiB or 200 files.", "Deploy a smaller model.")
            found = {_safe(e.filename): archive.read(e) for e in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise Invalid(f"The artifact is no readable zip: {error}.", "Deploy it again.") from None
    for name in needed:
        if name not in found:
            raise Invalid(f"The artifact has no {name}.", "Deploy it again.")
    return found


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise Invalid(f"The artifact holds a file named {name!r}.", "Deploy it again.")
    return str(path)
