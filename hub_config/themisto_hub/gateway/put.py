"""Put: a file in place for Envoy and the transformer, whole or not at all, for their group's eyes only."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["put"]

_FOLDER_MODE, _FILE_MODE = 0o750, 0o640


def put(path: Path, text: str) -> bool:
    """Replace the file by rename; False where it says the same already. Raises OSError.

    What control and gateway hand each other holds keys. The group is the folder's (setgid) where the supervisor
    made it.
    """
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
        os.fchmod(out.fileno(), _FILE_MODE)
    draft.replace(path)
    return True
