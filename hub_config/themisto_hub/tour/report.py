"""What the tour did: a table for a person and build/tour.json for a machine."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from rich.console import Console
from rich.table import Table

from themisto.types import Model, utcnow

__all__ = ["Report", "Stage"]


class Stage(Model):
    """One stage: what it was, how long it took, what was verified."""

    name: str
    seconds: float
    verified: tuple[str, ...]


class Report:
    """Stages as they end; written after each, so that a broken tour leaves its record too."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stages: list[Stage] = []

    def add(self, stage: Stage) -> None:
        self._stages.append(stage)
        print(f"✓ {stage.name} ({stage.seconds:.1f} s)", flush=True)
        for line in stage.verified:
            print(f"    {line}", flush=True)
        self.write("running")

    def write(self, outcome: str, reason: str = "") -> None:
        """Store what is known so far, with the outcome in a word."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "outcome": outcome,
            "reason": reason,
            "at": utcnow().isoformat(),
            "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "seconds": round(sum(s.seconds for s in self._stages), 1),
            "stages": [s.model_dump(mode="json") for s in self._stages],
        }
        self._file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def show(self) -> None:
        """The closing table."""
        table = Table("stage", "seconds", "verified", title="themisto: what the tour did", show_lines=True)
        for stage in self._stages:
            table.add_row(stage.name, f"{stage.seconds:.1f}", "\n".join(stage.verified))
        table.add_row("all", f"{sum(s.seconds for s in self._stages):.1f}", "")
        Console(width=140).print(table)
