"""Serving: `themisto.deploy(...)` does what `%%deploy` does; `themisto.endpoint(name)` asks what was deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from themisto.serving.chain import Chain
    from themisto.serving.public import deploy, endpoint

__all__ = ["Chain", "deploy", "endpoint"]

_LAZY = {"Chain": "themisto.serving.chain", "deploy": "themisto.serving.public", "endpoint": "themisto.serving.public"}


def __getattr__(name: str) -> Any:
    """Each waits for the verb that needs it."""
    import importlib

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
