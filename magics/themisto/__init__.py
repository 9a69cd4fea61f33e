"""themisto: track, features, pipeline, deploy and schedule, from a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from themisto.serving import deploy, endpoint

__version__ = "0.1.0"

__all__ = [
    "Aggregate",
    "Entity",
    "Expect",
    "Feature",
    "FeatureService",
    "FeatureView",
    "OnDemand",
    "Online",
    "Topic",
    "deploy",
    "endpoint",
    "features",
    "load_ipython_extension",
    "pipeline",
    "schedules",
    "track",
]

_LAZY = {
    "Aggregate": "themisto.features.windows",
    "Entity": "themisto.features.models",
    "Expect": "themisto.features.expectations",
    "Feature": "themisto.features.models",
    "FeatureService": "themisto.features.models",
    "FeatureView": "themisto.features.models",
    "OnDemand": "themisto.features.on_demand",
    "Online": "themisto.features.models",
    "Topic": "themisto.features.topics",
    "deploy": "themisto.serving",
    "endpoint": "themisto.serving",
    "pipeline": "themisto.pipelines",
    "track": "themisto.tracking",
}


_PACKAGES = ("features", "schedules")  # their modules are the Python API


def __getattr__(name: str) -> Any:
    import importlib

    if name in _PACKAGES:
        return importlib.import_module(f"themisto.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'themisto' has no attribute '{name}'")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: InteractiveShell) -> None:
    """`%load_ext themisto`."""
    from themisto.magic import register

    register(shell)
