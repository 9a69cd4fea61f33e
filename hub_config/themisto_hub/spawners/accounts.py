"""Accounts: a number for each person and each person's jobs, never given twice; it is the uid where there are uids."""

from __future__ import annotations

import json
import os
from pathlib import Path

from themisto.errors import Failed
from themisto_hub.spawners.choice import JOB_PREFIX

__all__ = ["FIRST_UID", "LAST_UID", "Accounts"]

FIRST_UID, LAST_UID = 700_000, 799_999
"""A range of our own: no entry of /etc/passwd or /etc/subuid may lie in it."""


class Accounts:
    """The book of numbers, in one file of the hub's."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "uids.json"

    def uid(self, user: str, server: str) -> int:
        """The number for a server of this person. Jobs have another one than what she starts herself."""
        key = f"{user}#jobs" if server.startswith(JOB_PREFIX) else user
        book: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}
        if key not in book:
            book[key] = max(book.values(), default=FIRST_UID - 1) + 1
            if book[key] > LAST_UID:
                raise Failed("There is no uid left for another person.", "Raise LAST_UID.")
            self._write(book)
        return book[key]

    def _write(self, book: dict[str, int]) -> None:
        scratch = self._file.with_suffix(".new")
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(book, out, indent=1)
        scratch.replace(self._file)
