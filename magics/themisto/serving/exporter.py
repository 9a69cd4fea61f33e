"""Exporters: how a model of some library becomes an artifact that Triton serves.

An exporter is found by its entry point in the group `themisto.exporters`; the built-in ones go
through the same door, and one from another package is asked first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

from themisto.errors import Invalid, Unavailable
from themisto.serving.models import Artifact, Kind, Signature
from themisto.types import Model

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors

__all__ = ["GROUP", "Export", "Exporter", "describe", "exporter_for"]

GROUP = "themisto.exporters"


class Export(Model):
    """An exported model: its bytes, and what goes in and comes out.

    kind: `onnx` is one ONNX file; `python` and `chain` are the zips described in
        `themisto_hub.model_server.repository`.
    Every tensor has the shape `(rows, *column.shape)`; each DataFrame column is an input of its own.
    """

    kind: Kind
    data: bytes
    signature: Signature

    @property
    def artifact(self) -> Artifact:
        return Artifact(kind=self.kind, sha256=hashlib.sha256(self.data).hexdigest(), size_bytes=len(self.data))


class Exporter(Protocol):
    """Knows the models of one library. Made without arguments, once for each deploy."""

    packages: tuple[str, ...]
    """Distributions whose versions the artifact depends on; they become the pinned requirements."""

    def accepts(self, model: object) -> bool:
        """Whether this exporter knows the type. Must be quick and import nothing heavy."""
        ...

    def columns(self, model: Any) -> tuple[str, ...] | None:
        """The columns the model was fitted on, in order, or None where it does not know."""
        ...

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        """What the model itself answers, by output name, each of shape `(rows, *column.shape)`."""
        ...

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        """The artifact. `frame` has exactly the model's columns. Must give the same bytes each time.

        Raises Invalid, with a remedy, for a model of its library that it cannot export.
        """
        ...


def exporter_for(model: object, *, native: bool = False) -> Exporter:
    """The exporter that accepts `model`; with `native`, one that keeps the model in its own library.

    Raises Invalid where none does.
    """
    from themisto.serving.native import Native

    for entry in _entries():
        exporter = _load(entry)
        if exporter is not None and exporter.accepts(model):
            return Native.of(exporter) if native else exporter
    if native and Native.fits(model):
        return Native(None)
    known = ", ".join(sorted(entry.name for entry in _entries()))
    raise Invalid(
        f"Nothing can export {describe(model)}; there are exporters for {known}.",
        "End the cell with a fitted model, or with a function that takes a DataFrame and returns the answers"
        + ("; or serve this one in its own library: --native." if Native.fits(model) else "."),
    )


def _entries() -> Iterator[EntryPoint]:
    """Entry points, those of other packages first."""
    return iter(sorted(entry_points(group=GROUP), key=lambda e: (e.value.startswith("themisto."), e.name)))


def _load(entry: EntryPoint) -> Exporter | None:
    """None where the exporter's library is not installed: then no model of it can be here either."""
    try:
        make: Callable[[], Exporter] = entry.load()
        return make()
    except ImportError as error:
        if entry.value.startswith("themisto."):
            return None
        raise Unavailable(
            f"The exporter '{entry.name}' cannot be imported: {error}.", "Install what it needs, or uninstall it."
        ) from error


def describe(model: object) -> str:
    """`a sklearn.pipeline.Pipeline`, `None`, `the string 'x'`: for messages."""
    if model is None:
        return "None (the cell has no last value)"
    kind = type(model)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a {module}{kind.__qualname__}"
