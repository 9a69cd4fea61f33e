"""Requests by entity key: the keys out of an inference request, the looked-up features into it.

The Open Inference Protocol's two wires (JSON with the binary tensor extension, protobuf) differ only
in how tensors are packed; what a missing entity means is decided here, once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from themisto.errors import Invalid, NotFound
from themisto.features.models import Column
from themisto.features.reading import Found
from themisto.features.records import ServiceSpec
from themisto.types import Model

__all__ = ["Tensor", "entities_of", "missing_policy", "pack", "tensors_for", "unpack"]

DTYPES: Mapping[str, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP32": np.float32,
    "FP64": np.float64,
}


class Tensor(Model):
    """One input of a model, as Triton's metadata has it: batch first, `(-1,)`, `(-1, 1)` or, for lists, `(-1, n)`."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def of(self, rows: int) -> list[int]:
        """The shape of a request with so many rows."""
        return [rows, *(max(size, 1) for size in self.shape[1:])]


def entities_of(keys: Sequence[Column], columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows of keys from columns of keys. Raises Invalid where one is missing or of another length."""
    absent = [k.name for k in keys if k.name not in columns]
    if absent:
        raise Invalid(
            f"The request has no input {', '.join(absent)}.",
            f"Send the keys {', '.join(k.name for k in keys)}, or every feature of the model.",
        )
    lengths = {len(columns[k.name]) for k in keys}
    if len(lengths) != 1 or not min(lengths):
        raise Invalid("The keys have no or different numbers of rows.", "Send one value a key and row.")
    return [{k.name: columns[k.name][i] for k in keys} for i in range(lengths.pop())]


def missing_policy(spec: ServiceSpec, found: Found, entities: Sequence[Mapping[str, Any]]) -> None:
    """Raises NotFound for entities without features, where the service refuses them."""
    if spec.on_missing in ("refuse", "last") and found.incomplete:
        first = entities[found.incomplete[0]]
        who = ", ".join(f"{name}={value}" for name, value in first.items())
        more = f" and {len(found.incomplete) - 1} more" if len(found.incomplete) > 1 else ""
        raise NotFound(f"{spec.ref} has no features of {who}{more}.", "Materialize them, or send the features.")


def tensors_for(
    spec: ServiceSpec, found: Found, wanted: Sequence[Tensor], given: frozenset[str]
) -> list[tuple[Tensor, list[Any]]]:
    """The model's inputs that the caller did not give, from the looked-up rows.

    Raises Invalid for an input that is neither given nor a feature, NotFound for a null that its type cannot hold.
    """
    place = {c.name: i for i, c in enumerate(spec.outputs)}
    unknown = [t.name for t in wanted if t.name not in given and t.name not in place]
    if unknown:
        raise Invalid(f"The model also needs {', '.join(unknown)}.", f"Send it: it is no feature of {spec.ref}.")
    filled = []
    for tensor in wanted:
        if tensor.name not in given:
            values = [_held(row[place[tensor.name]], tensor) for row in found.rows]
            if spec.outputs[place[tensor.name]].dtype.startswith("list"):
                values = _flat(tensor, values)
            filled.append((tensor, values))
    return filled


def _flat(tensor: Tensor, values: Sequence[Sequence[Any]]) -> list[Any]:
    """Lists one behind the other. Raises Invalid for one that is not as long as the model's input is wide."""
    width = math.prod(tensor.of(1))
    wrong = next((len(value) for value in values if len(value) != width), None)
    if wrong is not None:
        raise Invalid(f"'{tensor.name}' takes {width} numbers; a list has {wrong}.", "Store lists of one length.")
    return [number for value in values for number in value]


def _held(value: Any, tensor: Tensor) -> Any:
    if value is not None:
        return value
    if tensor.datatype in ("FP32", "FP64") and math.prod(tensor.of(1)) == 1:
        return float("nan")
    if tensor.datatype == "BYTES":
        return ""
    raise NotFound(
        f"'{tensor.name}' has no value, and {tensor.datatype} cannot say so.", "Give the service defaults={…}."
    )


def pack(tensor: Tensor, values: Sequence[Any]) -> bytes:
    """A column as raw little-endian bytes (BYTES: each value behind its length)."""
    try:
        if tensor.datatype == "BYTES":
            texts = [str(v).encode() for v in values]
            return b"".join(struct.pack("<I", len(t)) + t for t in texts)
        return np.asarray(values, dtype=DTYPES[tensor.datatype]).tobytes()
    except (KeyError, ValueError, TypeError, OverflowError):
        raise Invalid(f"'{tensor.name}' does not fit {tensor.datatype}.", "Deploy with this feature's type.") from None


def unpack(datatype: str, raw: bytes) -> list[Any]:
    """Values of raw bytes; text for BYTES. Raises Invalid."""
    try:
        if datatype != "BYTES":
            values: list[Any] = np.frombuffer(raw, dtype=DTYPES[datatype]).tolist()
            return values
        found, at = [], 0
        while at < len(raw):
            (length,) = struct.unpack_from("<I", raw, at)
            text = raw[at + 4 : at + 4 + length]
            if len(text) != length:
                raise ValueError("cut short")
            found.append(text.decode())
            at += 4 + length
    except (KeyError, ValueError, struct.error) as error:
        raise Invalid(
            f"A tensor of type {datatype} cannot be read: {error}.", "Send it as the protocol says."
        ) from None
    return found
