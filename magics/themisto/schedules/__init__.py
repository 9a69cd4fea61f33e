"""Schedules: notebooks that run by themselves.

The module is the Python API: `themisto.schedules.run("nightly")` calls the method of that name of
this notebook's `Schedules` (see `themisto.schedules.service`).
"""

from __future__ import annotations

from typing import Any

from themisto.workbench import service_method

__all__ = ["create", "jobs", "list", "output", "pause", "remove", "resume", "run"]


def __getattr__(name: str) -> Any:
    return service_method(__name__, __all__, name)
