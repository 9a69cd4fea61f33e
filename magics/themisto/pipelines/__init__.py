"""Steps of a notebook, and the pipeline they make: `themisto.pipeline` is this notebook's."""

from __future__ import annotations

from typing import Any

__all__ = ["pipeline"]


def __getattr__(name: str) -> Any:
    if name != "pipeline":
        raise AttributeError(f"module 'themisto.pipelines' has no attribute '{name}'")
    from themisto.workbench import workbench

    return workbench().pipelines
