"""Building: an ONNX graph in the making, for models that are put together from parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from themisto.serving.exporters.answers import LABEL, PREDICTION, PROBABILITIES

__all__ = ["Building", "Types"]

Types = list[tuple[str, Any]]
"""Input name and skl2onnx's type of it."""

_IR_VERSION = 10


class Building:
    """Parts are embedded, operators appended; tensors are known by name."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._opsets: dict[str, int] = {"": 13, "ai.onnx.ml": 1}
        self._texts: set[str] = set()
        self._embedded = 0
        self._named = 0

    def model(self, outputs: dict[str, str]) -> onnx.ModelProto:
        """What was built, with these tensors as its outputs."""
        kinds = {LABEL: TensorProto.INT64, PROBABILITIES: TensorProto.FLOAT, PREDICTION: TensorProto.FLOAT}
        given = [helper.make_tensor_value_info(n, _element(t), t.shape) for n, t in self._types]
        answers = []
        for name, tensor in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [name]))
            kind = TensorProto.STRING if tensor in self._texts else kinds[name]
            answers.append(helper.make_tensor_value_info(name, kind, None))
        graph = helper.make_graph(self._nodes, "model", given, answers, self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def op(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append an operator; the name of its output."""
        self._named += 1
        name = f"c{self._named}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: np.ndarray[Any, Any]) -> str:
        self._named += 1
        name = f"c{self._named}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def times(self, tensor: str, factor: float) -> str:
        return self.op("Mul", [tensor, self.constant(np.array([factor], np.float32))])

    def sum(self, tensors: Sequence[str]) -> str:
        return self.op("Sum", tensors)

    def column(self, tensor: str) -> str:
        return self.op("Reshape", [tensor, self.constant(np.array([-1, 1]))])

    def at(self, tensor: str, column: int) -> str:
        return self.op("Gather", [tensor, self.constant(np.array([column]))], axis=1)

    def one_hot(self, label: str, classes: int) -> str:
        codes = self.column(self.op("Cast", [label], to=TensorProto.INT64))
        same = self.op("Equal", [codes, self.constant(np.arange(classes)[None, :])])
        return self.op("Cast", [same], to=TensorProto.FLOAT)

    def label(self, scores: str, classes: np.ndarray[Any, Any]) -> str:
        return self.class_of(self.op("ArgMax", [scores], axis=1, keepdims=0), classes)

    def class_of(self, code: str, classes: np.ndarray[Any, Any]) -> str:
        """The class of a code. Parts of a stacking or voting model are fitted on codes."""
        flat = self.op("Reshape", [self.op("Cast", [code], to=TensorProto.INT64), self.constant(np.array([-1]))])
        text = classes.dtype.kind in "OUS"
        if text:
            self._named += 1
            table = f"c{self._named}"
            told = np.array([str(c) for c in classes], dtype=object)
            self._constants.append(numpy_helper.from_array(told, table))
        else:
            table = self.constant(classes.astype(np.int64))
        found = self.op("Gather", [table, flat], axis=0)
        if text:
            self._texts.add(found)
        return found

    def embed(self, part: onnx.ModelProto, feeds: dict[str, str], outputs: Sequence[str]) -> dict[str, str]:
        """The nodes of a part's graph, its inputs joined to tensors; the tensors of its outputs, in their order."""
        from themisto.serving.graph import rename_tensors

        self._embedded += 1
        prefix = f"p{self._embedded}:"
        inner = compose.add_prefix(part, prefix)
        rename_tensors(inner.graph, {f"{prefix}{name}": tensor for name, tensor in feeds.items()})
        self._nodes.extend(inner.graph.node)
        self._constants.extend(inner.graph.initializer)
        for opset in inner.opset_import:
            self._opsets[opset.domain] = max(self._opsets.get(opset.domain, 0), opset.version)
        return dict(zip(outputs, [output.name for output in inner.graph.output], strict=False))


def _element(kind: Any) -> int:
    """Element type of one of skl2onnx's."""
    return int(TensorProto.STRING if type(kind).__name__ == "StringTensorType" else TensorProto.FLOAT)
