"""The Open Inference Protocol's REST shapes as JSON Schema, as its specification has them.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_rest.yaml, with
Triton's binary tensor extension: a tensor has `data`, or says by `binary_data_size` how much follows.
"""

from __future__ import annotations

from typing import Any

_DATATYPES = [
    *(f"{kind}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)),
    *("BOOL", "FP16", "FP32", "FP64", "BYTES"),
]
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_NAMED = {"name": {"type": "string"}, "datatype": {"enum": _DATATYPES}}
_BINARY = {"properties": {"parameters": {"required": ["binary_data_size"]}}, "required": ["parameters"]}


def _tensor() -> dict[str, Any]:
    shape = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    return {
        "type": "object",
        "properties": _NAMED | {"shape": shape, "parameters": _PARAMETERS, "data": {"type": "array"}},
        "required": ["name", "shape", "datatype"],
        "oneOf": [{"required": ["data"]}, _BINARY],
    }


def _described() -> dict[str, Any]:
    shape = {"type": "array", "items": {"type": "integer", "minimum": -1}}
    return {"type": "object", "properties": _NAMED | {"shape": shape}, "required": ["name", "datatype", "shape"]}


SERVER = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "extensions": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "version", "extensions"],
}
MODEL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "versions": {"type": "array", "items": {"type": "string"}},
        "platform": {"type": "string"},
        "inputs": {"type": "array", "items": _described()},
        "outputs": {"type": "array", "items": _described()},
    },
    "required": ["name", "platform", "inputs", "outputs"],
}
REQUEST = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _tensor(), "minItems": 1},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
    "required": ["inputs"],
}
ANSWER = {
    "type": "object",
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "outputs": {"type": "array", "items": _tensor(), "minItems": 1},
    },
    "required": ["model_name", "outputs"],
}
ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string", "minLength": 1}},
    "required": ["error"],
    "additionalProperties": False,
}
