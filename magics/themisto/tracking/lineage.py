"""Which run a model object came from: remembered by identity, and only while the object is what the run made."""

from __future__ import annotations

import hashlib
import pickle
import weakref
from typing import Any

from themisto.tracking.models import Lineage

__all__ = ["LineageMap"]


class LineageMap:
    """Model objects of this kernel and their runs; keeps no model alive.

    A model that was fitted again outside a run is not what the run made any more, so its content is
    compared too: a wrong origin would be worse than none.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], str | None, Lineage]] = {}

    def remember(self, model: Any, lineage: Lineage) -> None:
        key = id(model)
        try:
            reference = weakref.ref(model, lambda _: self._known.pop(key, None))
        except TypeError:  # an object without weak references cannot be followed
            return
        self._known[key] = (reference, _content(model), lineage)

    def of(self, model: Any) -> Lineage | None:
        reference, content, lineage = self._known.get(id(model), (None, None, None))
        if reference is None or reference() is not model or content != _content(model):
            return None
        return lineage


def _content(model: Any) -> str | None:
    """SHA-256 of the pickled model; None for what cannot be pickled (functions of a notebook can, by name)."""
    try:
        return hashlib.sha256(pickle.dumps(model, protocol=5)).hexdigest()
    except Exception:  # noqa: BLE001 - a model's own __reduce__ may raise anything
        return None
