"""Runner: an exported artifact answering in this process or a clean one, without Triton."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from themisto.errors import Failed, Invalid
from themisto.serving.frame import NUMPY, Tensors
from themisto.serving.models import Signature

if TYPE_CHECKING:
    from themisto.serving.exporter import Export

__all__ = ["run", "run_onnx"]


def run(export: Export, inputs: Tensors) -> Tensors:
    """What the artifact answers. Raises Failed where it cannot."""
    if export.kind == "onnx":
        return run_onnx(export.data, export.signature, inputs)
    if export.kind == "chain":
        return _run_chain(export, inputs)
    from themisto.serving.clean import run_function

    return run_function(export.data, export.signature, inputs)


def _run_chain(export: Export, inputs: Tensors) -> Tensors:
    """Its parts one after the other, as Triton's ensemble runs them."""
    from themisto.serving.chain import Plan
    from themisto.serving.exporter import Export

    plan, artifacts = Plan.read(export.data)
    known = dict(inputs)
    for part in plan.parts:
        given = {name: known[tensor] for name, tensor in part.reads.items()}
        one = Export(kind=part.kind, data=artifacts[part.name], signature=part.signature)
        known |= {plan.tensor(part, name): array for name, array in run(one, given).items()}
    return {c.name: known[c.name] for c in export.signature.outputs}


def run_onnx(data: bytes, signature: Signature, inputs: Tensors) -> Tensors:
    """The outputs by name, from onnxruntime on the CPU."""
    try:
        session = _session(data)
        answers = session.run([c.name for c in signature.outputs], {c.name: inputs[c.name] for c in signature.inputs})
    except (KeyError, MemoryError):
        raise
    except Exception as error:
        cause = " ".join(str(error).split())
        raise Failed(f"onnxruntime cannot run the exported model: {cause[:300]}", "Tell the platform team.") from error
    return {c.name: _as_stated(array, c.dtype) for c, array in zip(signature.outputs, answers, strict=True)}


def _as_stated(array: Any, dtype: Any) -> Any:
    if array.dtype.kind in "OUS":
        return array.astype(object)
    return array.astype(NUMPY[dtype], copy=False)


@lru_cache(maxsize=2)
def _session(data: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        cause = " ".join(str(error).split())
        raise Invalid(f"The exported model cannot be loaded: {cause[:300]}", "Export it again.") from error
