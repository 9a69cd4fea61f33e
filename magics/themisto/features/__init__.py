"""Features: what is known about whom, at which time.

The module is the Python API: `themisto.features.get("scoring", id=7)` calls the method of that name
of this notebook's `Features` (see `themisto.features.service`).
"""

from __future__ import annotations

from typing import Any

from themisto.workbench import service_method

__all__ = [
    "apply",
    "check",
    "erase",
    "freshness",
    "get",
    "historical",
    "list",
    "materialize",
    "push",
    "quarantine",
    "select",
    "show",
]


def __getattr__(name: str) -> Any:
    return service_method(__name__, __all__, name)
