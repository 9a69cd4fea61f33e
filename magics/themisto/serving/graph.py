"""ONNX graphs, fitted to the workbench's convention: an input for each column, named and shaped outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from themisto.errors import Invalid
from themisto.serving.models import Column, Dtype

__all__ = ["ONNX_TYPES", "Categories", "Take", "canonical", "columns_in", "columns_out", "read_io", "rename_tensors"]

ONNX_TYPES: Mapping[int, Dtype] = {
    TensorProto.BOOL: "BOOL",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}
_TO_ONNX = {dtype: number for number, dtype in ONNX_TYPES.items()}
_ML = "ai.onnx.ml"

Categories = Mapping[str, Sequence[Any]]
"""Column name to its categories in the order of their codes: such a column enters the model as its code."""


class Take:
    """Where an output comes from: a tensor of the converter's graph, or one column of it."""

    def __init__(self, tensor: str, column: int | None = None) -> None:
        self.tensor = tensor
        self.column = column


def columns_in(
    model: onnx.ModelProto,
    columns: Sequence[Column],
    *,
    matrix: str | None = None,
    categories: Categories | None = None,
    missing_text: str | None = None,
) -> onnx.ModelProto:
    """`model` with an input `(rows, 1)` for each column, in the column's own type.

    With `matrix`, the graph's input of that name is FP32 `(rows, len(columns))` and the columns are
    put together for it; without, the graph has an input for each column already, FP32 where the
    column is a number, and columns that no node reads are left out. A missing text of a column that
    declares one reaches the graph as `missing_text`, where that is given.
    """
    model = _copy(model)
    graph = model.graph
    used = _read(graph)
    kept = [c for c in columns if matrix is not None or c.name in used]
    rename = {c.name: f"{c.name}:f32" for c in kept if c.name != matrix} if matrix is None else {matrix: ":matrix"}
    rename_tensors(graph, rename)
    nodes, named = [], []
    for column in kept:
        if missing_text is not None and column.dtype == "BYTES" and column.missing is not None:
            named += _named_missing(graph, column, f"{column.name}:f32", missing_text)
        else:
            nodes.append(_as_float(column, f"{column.name}:f32", (categories or {}).get(column.name)))
    if matrix is not None:
        nodes.append(helper.make_node("Concat", [n.output[0] for n in nodes], [":matrix"], axis=1))
    _insert(graph, [*named, *nodes])
    del graph.input[:]
    graph.input.extend(_info(c.name, c.dtype, c.shape) for c in kept)
    _at_least(model, "", 9)
    _at_least(model, _ML, 2 if categories or named else 1)
    return model


def columns_out(model: onnx.ModelProto, outputs: Mapping[str, tuple[Take, Column]]) -> onnx.ModelProto:
    """`model` with exactly these outputs, each of shape `(rows, *column.shape)` and of the column's type."""
    model = _copy(model)
    graph = model.graph
    types = {o.name: o.type.tensor_type.elem_type for o in graph.output}
    wanted = {take.tensor for take, _ in outputs.values()}
    for name in wanted - types.keys():
        raise Invalid(f"The exported graph has no output '{name}'.", "Tell the platform team which model this was.")
    raw = {name: f"{name}:raw" for name in types}
    rename_tensors(graph, raw)
    del graph.output[:]
    for name, (take, column) in outputs.items():
        source = raw[take.tensor]
        if take.column is not None:
            at = _constant(graph, f"{name}:at", [take.column])
            source = _append(graph, "Gather", [source, at], f"{name}:column", axis=1)
        target = name if types[take.tensor] == _TO_ONNX[column.dtype] else f"{name}:shaped"
        _append(graph, "Reshape", [source, _constant(graph, f"{name}:shape", [-1, *column.shape])], target)
        if target != name:
            _append(graph, "Cast", [target], name, to=_TO_ONNX[column.dtype])
        graph.output.append(_info(name, column.dtype, column.shape))
    return model


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its inner tensors and nodes counted through: converters number theirs by run, and the same
    model must give the same bytes."""
    model = _copy(model)
    kept = {v.name for v in (*model.graph.input, *model.graph.output)}
    names: dict[str, str] = {"": ""}
    _count_through(model.graph, kept, names)
    model.doc_string, model.graph.name = "", "model"
    return model


def _count_through(graph: onnx.GraphProto, kept: Collection[str], names: dict[str, str]) -> None:
    """One name for one, everywhere in the graph and its nested graphs: what was connected stays connected."""

    def named(old: str) -> str:
        return old if old in kept else names.setdefault(old, f"t{len(names)}")

    del graph.value_info[:]
    for tensor in graph.initializer:
        tensor.name = named(tensor.name)
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"n{number}", ""
        for field in (node.input, node.output):
            field[:] = [named(name) for name in field]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _count_through(attribute.g, kept, names)
                for value in (*attribute.g.input, *attribute.g.output):
                    value.name = named(value.name)
                attribute.g.name = f"g{number}"


def read_io(values: Any) -> list[tuple[str, Dtype | None, list[int | None]]]:
    """Name, type and dimensions (None where open) of graph inputs or outputs; type None: not a tensor we serve."""
    found = []
    for value in values:
        tensor = value.type.tensor_type if value.type.HasField("tensor_type") else None
        dtype = ONNX_TYPES.get(tensor.elem_type) if tensor is not None else None
        dims = [d.dim_value or None for d in tensor.shape.dim] if tensor is not None else []
        found.append((value.name, dtype, dims))
    return found


def _as_float(column: Column, target: str, categories: Sequence[Any] | None) -> onnx.NodeProto:
    if categories is not None:
        text = column.dtype == "BYTES"
        keys: dict[str, Any] = {"keys_strings": [str(c) for c in categories]} if text else {"keys_int64s": categories}
        codes = [float(i) for i in range(len(categories))]
        return helper.make_node(
            "LabelEncoder", [column.name], [target], domain=_ML, values_floats=codes, default_float=float("nan"), **keys
        )
    if column.dtype in ("FP32", "BYTES"):
        return helper.make_node("Identity", [column.name], [target])
    return helper.make_node("Cast", [column.name], [target], to=TensorProto.FLOAT)


def _named_missing(graph: onnx.GraphProto, column: Column, target: str, text: str) -> list[onnx.NodeProto]:
    """The column's texts, with `text` for a missing one."""
    is_missing, condition, name = f"{column.name}:missing", f"{column.name}:is", f"{column.name}:name"
    graph.initializer.append(numpy_helper.from_array(np.array([text], dtype=object), name))
    known: dict[str, Any] = {"keys_strings": [str(column.missing)], "values_int64s": [1], "default_int64": 0}
    return [
        helper.make_node("LabelEncoder", [column.name], [is_missing], domain=_ML, **known),
        helper.make_node("Cast", [is_missing], [condition], to=TensorProto.BOOL),
        helper.make_node("Where", [condition, name, column.name], [target]),
    ]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def rename_tensors(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors other names in all nodes, those of nested graphs too."""
    for node in graph.node:
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                if name in names:
                    field[i] = names[name]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename_tensors(attribute.g, names)


def _read(graph: onnx.GraphProto) -> set[str]:
    """Names that some node reads, those of nested graphs too."""
    names = {name for node in graph.node for name in node.input}
    nested = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return names.union(*(_read(inner) for inner in nested))


def _insert(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def _append(graph: onnx.GraphProto, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
    graph.node.append(helper.make_node(op, inputs, [output], **attributes))
    return output


def _constant(graph: onnx.GraphProto, name: str, values: Sequence[int]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
    return name


def _info(name: str, dtype: Dtype, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _TO_ONNX[dtype], ["rows", *shape])


def _at_least(model: onnx.ModelProto, domain: str, version: int) -> None:
    for opset in model.opset_import:
        if opset.domain == domain:
            opset.version = max(opset.version, version)
            return
    model.opset_import.append(helper.make_opsetid(domain, version))
