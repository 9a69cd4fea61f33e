"""A copy of the audit database with one event changed: verification must notice."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

from themisto.errors import Failed
from themisto.types import utcnow
from themisto_hub.control.audit import verify_copy
from themisto_hub.tour.house import House

__all__ = ["tampering_is_noticed"]


def tampering_is_noticed(house: House) -> str:
    """Change, delete and cut in copies; raises Failed if one of them still verifies."""
    heads = house.settings.folder("control") / "audit"
    scratch = Path("build/tour/audit")
    scratch.mkdir(parents=True, exist_ok=True)
    copy = scratch / "copy.db"
    with sqlite3.connect(house.settings.folder("control") / "control.db") as live, sqlite3.connect(copy) as target:
        live.backup(target)
    untouched = verify_copy(f"sqlite:///{copy.absolute()}", heads, utcnow)
    if not untouched.intact:
        raise Failed(f"An untouched copy does not verify: {untouched.reason}.", "This is a fault of the audit chain.")
    found = []
    for what, statement in {
        "an edited approver": "UPDATE audit_event SET actor = 'somebody' WHERE number = 3",
        "a deleted event": "DELETE FROM audit_event WHERE number = 3",
        "a cut end": f"DELETE FROM audit_event WHERE number >= {_last_signed(heads)}",  # noqa: S608 - an int
    }.items():
        tampered = scratch / "tampered.db"
        shutil.copyfile(copy, tampered)
        with sqlite3.connect(tampered) as database:
            database.execute(statement)
        verdict = verify_copy(f"sqlite:///{tampered.absolute()}", heads, utcnow)
        if verdict.intact:
            raise Failed(f"A copy with {what} verifies.", "This is a fault of the audit chain.")
        found.append(f"{what} (link {verdict.broken_at})")
    return f"a copy of the audit chain verifies; tampered copies do not: {', '.join(found)}"


def _last_signed(heads: Path) -> int:
    last = (heads / "heads.jsonl").read_text().splitlines()[-1]
    return int(json.loads(last)["head"].partition(":")[0])
