"""PyTorch modules of one matrix as ONNX: the sample's columns, as FP32 in their order, are what goes in."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from themisto.errors import Invalid
from themisto.serving.exporter import Export
from themisto.serving.exporters.answers import PREDICTION, outputs_of
from themisto.serving.exporters.conversion import converting, onnx_export
from themisto.serving.frame import model_columns, numeric

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors

__all__ = ["Torch"]

_MATRIX = "features"
_OPSET = 17


class Torch:
    """`torch.nn.Module`, in evaluation mode and without gradients, any number of rows.

    A tensor is the output `prediction`; a dict names its outputs; a tuple's are `output_0`, `output_1`, …
    """

    packages = ("torch",)

    def accepts(self, model: object) -> bool:
        return any(kind.__module__ == "torch.nn.modules.module" for kind in type(model).__mro__)

    def columns(self, model: Any) -> tuple[str, ...] | None:
        return None

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        import torch

        _require_numbers(frame)
        with _evaluating(model) as module, torch.no_grad():
            given = torch.from_numpy(frame.to_numpy(dtype=np.float32, na_value=np.nan)).to(_dtype(module))
            return {name: _array(tensor, len(frame)) for name, tensor in _named(module(given)).items()}

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        import onnx

        from themisto.serving import graph

        inputs = model_columns(frame)
        outputs = outputs_of(self.answers(model, frame.head(2)))
        with converting(model), _evaluating(model) as module:
            made = onnx.load_model_from_string(_written(module, len(inputs), [c.name for c in outputs]))
            shaped = graph.columns_out(made, {c.name: (graph.Take(c.name), c) for c in outputs})
            whole = graph.columns_in(shaped, inputs, matrix=_MATRIX)
        return onnx_export(whole, inputs, outputs)


@contextmanager
def _evaluating(model: Any) -> Iterator[Any]:
    """The module on the CPU, in evaluation mode; the person's own is left in the mode and place it was in."""
    away = any(tensor.device.type != "cpu" for tensor in model.parameters())
    module = copy.deepcopy(model).cpu() if away else model
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield module
    finally:
        for part in training:
            part.training = True


def _written(module: Any, width: int, names: list[str]) -> bytes:
    import torch

    class Flat(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        """The module with FP32 going in and its outputs as a tuple coming out."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, features: Any) -> Any:
            return tuple(_named(self.inner(features.to(_dtype(module)))).values())

    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False  # the newer way wants onnxscript
    buffer = io.BytesIO()
    torch.onnx.export(
        Flat().eval(),
        (torch.zeros(2, width),),
        buffer,
        input_names=[_MATRIX],
        output_names=names,
        dynamic_axes={name: {0: "rows"} for name in (_MATRIX, *names)},
        opset_version=_OPSET,
        **options,
    )
    return buffer.getvalue()


def _named(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Mapping):
        return {str(name): tensor for name, tensor in answer.items()}
    if isinstance(answer, tuple | list):
        return {f"output_{i}": tensor for i, tensor in enumerate(answer)}
    return {PREDICTION: answer}


def _array(tensor: Any, rows: int) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().numpy()
    if array.shape[:1] != (rows,):
        raise Invalid(
            f"The module answers with shape {tuple(array.shape)} for {rows} rows.",
            "Its forward must keep the rows as the first axis.",
        )
    array = array.reshape(rows, -1)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _dtype(module: Any) -> Any:
    import torch

    return next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), torch.float32)


def _require_numbers(frame: pd.DataFrame) -> None:
    text = [c.name for c in model_columns(frame) if not numeric(c)]
    if text:
        raise Invalid(
            f"A module takes numbers; the column '{text[0]}' is text.",
            "Put a chain's pre before it that makes numbers: themisto.serving.Chain(pre, module).",
        )
