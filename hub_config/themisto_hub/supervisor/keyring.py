"""The keys of an embedded workbench: made once, kept in one file, handed out one by one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from themisto_hub.settings import Keys

__all__ = ["Keyring"]


class Keyring:
    """Random keys for every field of `Keys`, in a file only the supervisor's user reads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._keys = self._load()

    def _load(self) -> dict[str, str]:
        known: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        missing = [name for name in Keys.model_fields if name not in known]
        if missing:
            known |= {name: secrets.token_hex(32) for name in missing}
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            scratch = self._file.with_suffix(".new")
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                json.dump(known, out, indent=1)
            scratch.replace(self._file)
        return known

    def __getitem__(self, name: str) -> str:
        return self._keys[name]

    def environment(self, names: Iterable[str]) -> dict[str, str]:
        """`THEMISTO_KEY_…` variables for a process that may know these keys."""
        return {f"THEMISTO_KEY_{name.upper()}": self._keys[name] for name in names}
