"""Sides of a benchmark that take turns, so that what else runs on the machine meets all of them alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["FEAST", "OURS", "Side", "in_turns", "median"]

OURS = sys.executable
FEAST = ".venvs/feast/bin/python"


class Side:
    """A process that answers a JSON line with a JSON line (see `peers/asked.py`); gone at the end of the block."""

    def __init__(self, *command: str | Path) -> None:
        self._command = [str(word) for word in command]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, **said: Any) -> dict[str, Any]:
        """What the side measured."""
        if self._process.stdin is None:
            raise RuntimeError(self._command)
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        """The next line that is ours: libraries print too."""
        if self._process.stdout is None:
            raise RuntimeError(self._command)
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError(f"{' '.join(self._command)} ended with {self._process.wait()}")


def in_turns(
    sides: Mapping[str, Side], rounds: int, *, less: Mapping[str, int] | None = None, **said: Any
) -> dict[str, list[dict[str, Any]]]:
    """Ask each side `rounds` times (those in `less` fewer), one after the other."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            if number < (less or {}).get(name, rounds):
                found[name].append(side.ask(**said))
    return found


def median(found: Sequence[Mapping[str, Any]], what: str = "seconds") -> float:
    return statistics.median(float(one[what]) for one in found)
