"""The log of one process: both its outputs in one rotating file, lines lost on a full disk instead of a supervisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from circus.stream import FileStream

__all__ = ["LogFile"]

_MAX_BYTES = 10_000_000
_KEPT = 3


class LogFile(FileStream):  # type: ignore[misc]  # circus is not typed
    """What circus writes the outputs to."""

    def __init__(self, file: Path, tell: Callable[[str], None]) -> None:
        super().__init__(str(file), _MAX_BYTES, _KEPT)
        self._tell = tell
        self._lost = 0

    def __call__(self, data: Mapping[str, Any]) -> None:
        try:
            super().__call__(data)
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                self._tell(f"{self._filename} cannot be written: {error.strerror}; its lines are lost until it can")
        else:
            self._lost = 0

    def close(self) -> None:
        with suppress(OSError):  # lines that never reached the disk
            super().close()
