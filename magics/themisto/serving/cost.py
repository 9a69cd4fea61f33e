"""Cost: what one row takes in an artifact, without network and model server."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

from themisto.errors import ThemistoError
from themisto.serving.runner import run_onnx

if TYPE_CHECKING:
    from themisto.serving.candidate import Candidate
    from themisto.serving.exporter import Export
    from themisto.serving.frame import Tensors

__all__ = ["native_cost", "p50_ms"]

_ASKED = 40
_COLD = 5


def native_cost(candidate: Candidate, exporter: Any, model: Any) -> str:
    """`a row takes 2.1 ms at p50, as ONNX 0.09 ms`; the second where the model's own exporter makes one."""
    from themisto.serving.frame import tensors

    here = f"a row takes {p50_ms(candidate.export, candidate.inputs):.2g} ms at p50"
    inner = getattr(exporter, "exporter", None)
    if inner is None:
        return here
    try:
        other = inner.export(model, candidate.frame)
        took = p50_ms(other, tensors(candidate.frame, other.signature.inputs))
    except ThemistoError:
        return f"{here}; there is no ONNX of it to compare with"
    return f"{here}, as ONNX {took:.2g} ms"


def p50_ms(export: Export, inputs: Tensors) -> float:
    """The median of some dozens of single rows, in milliseconds, once it is warm."""
    row = {column.name: inputs[column.name][:1] for column in export.signature.inputs}
    if export.kind == "onnx":
        return _median(lambda: run_onnx(export.data, export.signature, row))
    from themisto.serving.clean import running

    with running(export.data) as process:
        return _median(lambda: process(row))


def _median(ask: Callable[[], object]) -> float:
    took = []
    for _ in range(_COLD + _ASKED):
        started = time.perf_counter()
        ask()
        took.append((time.perf_counter() - started) * 1000)
    return median(took[_COLD:])
