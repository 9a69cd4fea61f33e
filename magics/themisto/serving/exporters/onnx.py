"""ONNX models as they are: a ModelProto, its bytes, or the path of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.serving.exporter import Export
from themisto.serving.exporters.conversion import from_package
from themisto.serving.frame import model_columns, numeric, pick, tensors
from themisto.serving.models import Column, Dtype, Signature

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors

__all__ = ["Onnx"]

_MAX_BYTES = 2 * 1024**3


class Onnx:
    """Nothing is converted. Two shapes of input are taken: one `[rows, 1]` tensor a column, named as the
    column; or a single FP32 matrix `[rows, k]`, before which the sample's k columns are put together.
    Outputs of rank one become `[rows, 1]`.
    """

    packages = ("onnx", "onnxruntime")

    def accepts(self, model: object) -> bool:
        if isinstance(model, bytes):
            return model[:1] == b"\x08"  # field 1 of ModelProto, ir_version, comes first
        if isinstance(model, str | Path):
            return str(model).endswith(".onnx")
        return from_package(model, "onnx") and type(model).__name__ == "ModelProto"

    def columns(self, model: Any) -> tuple[str, ...] | None:
        inputs = _inputs(_proto(model))
        return None if _is_matrix(inputs) else tuple(name for name, _, _ in inputs)

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        """What the file itself answers in onnxruntime, before anything is put around it."""
        import numpy as np

        from themisto.serving.runner import run_onnx

        proto = _proto(model)
        inputs = _inputs(proto)
        signature = Signature(inputs=_stated(inputs), outputs=_stated(_outputs(proto)))
        if _is_matrix(inputs):
            given = {inputs[0][0]: frame.to_numpy(dtype=np.float32)}
        else:
            shaped = tuple(Column(name=c.name, dtype=c.dtype) for c in signature.inputs)
            arrays = tensors(frame, shaped)
            given = {c.name: _rank(arrays[c.name], c) for c in signature.inputs}
        answers = run_onnx(proto.SerializeToString(), signature, given)
        return {name: array.reshape(len(frame), -1) for name, array in answers.items()}

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        from themisto.serving import graph

        proto = _proto(model)
        inputs, outputs = _inputs(proto), _outputs(proto)
        columns = model_columns(frame)
        if _is_matrix(inputs):
            _check_matrix(inputs[0], columns)
            proto = graph.columns_in(proto, columns, matrix=inputs[0][0])
        else:
            columns = _stated(inputs)
            pick(frame, [c.name for c in columns], whose="the ONNX model's inputs")
        shaped = {name: array.shape[1:] for name, array in self.answers(model, frame.head(2)).items()}
        stated = tuple(Column(name=name, dtype=_served(name, dtype), shape=shaped[name]) for name, dtype, _ in outputs)
        if any(len(dims) < 2 for _, _, dims in outputs):
            proto = graph.columns_out(proto, {c.name: (graph.Take(c.name), c) for c in stated})
        data = proto.SerializeToString() if not isinstance(model, bytes) or proto is not model else model
        return Export(kind="onnx", data=data, signature=Signature(inputs=columns, outputs=stated))


_Io = list[tuple[str, Dtype | None, list[int | None]]]


def _proto(model: Any) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if isinstance(model, onnx.ModelProto):
        return model
    try:
        return onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))
    except FileNotFoundError:
        raise Invalid(f"There is no file {model}.", "Give the path of an .onnx file, or the model itself.") from None
    except (DecodeError, OSError) as error:
        raise Invalid(f"This is no ONNX model: {error}.", "Give an onnx.ModelProto, its bytes, or its path.") from None


def _inputs(proto: Any) -> _Io:
    from themisto.serving.graph import read_io

    weights = {tensor.name for tensor in proto.graph.initializer}
    found = read_io(value for value in proto.graph.input if value.name not in weights)
    for name, dtype, _ in found:
        _served(name, dtype)
    return found


def _outputs(proto: Any) -> _Io:
    from themisto.serving.graph import read_io

    return read_io(proto.graph.output)


def _is_matrix(inputs: _Io) -> bool:
    return len(inputs) == 1 and len(inputs[0][2]) == 2 and inputs[0][2][1] != 1


def _rank(array: Any, column: Column) -> Any:
    """`(rows, 1)` as the graph wants it: some take `(rows,)`."""
    return array.reshape((len(array), *column.shape))


def _check_matrix(matrix: tuple[str, Dtype | None, list[int | None]], columns: tuple[Column, ...]) -> None:
    name, dtype, dims = matrix
    width = dims[1] or len(columns)
    if dtype != "FP32" or width != len(columns) or not all(numeric(c) for c in columns):
        raise Invalid(
            f"The model's input '{name}' is {dtype} of {width} columns; the sample has {len(columns)} columns: "
            f"{', '.join(c.name for c in columns[:8])}.",
            "Give a sample with just the model's columns, as numbers, in its order.",
        )


def _stated(io: _Io) -> tuple[Column, ...]:
    return tuple(
        Column(name=name, dtype=_served(name, dtype), shape=tuple(d or 1 for d in dims[1:])) for name, dtype, dims in io
    )


def _served(name: str, dtype: Dtype | None) -> Dtype:
    if dtype is None:
        raise Invalid(
            f"'{name}' of the ONNX model is of a type that is not served (a sequence, a map, or 16 bits).",
            "Export it with tensors of FP32, FP64, INT32, INT64, BOOL or strings (skl2onnx: zipmap=False).",
        )
    return dtype
