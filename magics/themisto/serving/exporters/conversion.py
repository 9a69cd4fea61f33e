"""Conversion: what the exporters to ONNX share around the converter they call."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from themisto.errors import Invalid, ThemistoError
from themisto.serving.exporter import Export, describe
from themisto.serving.models import Column, Signature

__all__ = ["OPSET", "converting", "from_package", "onnx_export"]

OPSET = {"": 21, "ai.onnx.ml": 3}
"""The newest operators that skl2onnx is asked for; it takes what resolves for the model. onnxmltools stops at
an older set and is left to choose."""


def from_package(model: object, *packages: str) -> bool:
    """Whether the model's class or one of its bases is defined in one of the packages; imports nothing."""
    return any(kind.__module__.partition(".")[0] in packages for kind in type(model).__mro__)


@contextmanager
def converting(model: object) -> Iterator[None]:
    """Whatever a converter raises becomes Invalid with its first sentence; its warnings are kept quiet."""
    loggers = [logging.getLogger(name) for name in ("skl2onnx", "onnxmltools", "onnxconverter_common")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ThemistoError, MemoryError):
        raise
    except Exception as error:
        said = describe(model)
        cause = " ".join(str(error).strip().split()) or type(error).__name__
        raise Invalid(
            f"{said[0].upper()}{said[1:]} cannot be exported: {cause[:300]}",
            "Serve it in its own library: --native (native=True).",
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def onnx_export(graph: Any, inputs: tuple[Column, ...], outputs: tuple[Column, ...]) -> Export:
    """The checked graph as an Export; columns the graph does not read are left out of its signature."""
    from onnx import checker

    from themisto.serving.graph import canonical

    graph = canonical(graph)
    checker.check_model(graph)
    read = {i.name for i in graph.graph.input}
    signature = Signature(inputs=tuple(c for c in inputs if c.name in read), outputs=outputs)
    return Export(kind="onnx", data=graph.SerializeToString(deterministic=True), signature=signature)
