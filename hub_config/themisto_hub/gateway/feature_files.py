"""Files that another process replaces: read when they change, the last good content kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["Watched"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Watched(Generic[T]):
    """The content of a file that is replaced by rename; `empty` until there is one."""

    def __init__(self, path: Path, parse: Callable[[bytes], T], empty: T) -> None:
        self._path = path
        self._parse = parse
        self._seen: tuple[int, int] | None = None
        self.value = empty
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it was replaced; True where the value is a new one."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino)
            if seen == self._seen:
                return False
            self.value = self._parse(self._path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            _log.exception("%s cannot be read; what was there before stays", self._path.name)
            return False
        self._seen = seen
        return True
