"""The transformer's gRPC side: predictions by entity key (Open Inference Protocol)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
from pydantic import SecretStr

from themisto import spans
from themisto.errors import Invalid, ThemistoError
from themisto_hub.gateway.default_answers import DefaultAnswers, asked_for
from themisto_hub.gateway.feature_callers import Callers, GatewayCaller
from themisto_hub.gateway.feature_entities import Tensor, pack, unpack
from themisto_hub.gateway.feature_lookup import Lookup
from themisto_hub.gateway.feature_read_grpc import CODES
from themisto_hub.model_server.infer_key import INFER_METADATA

__all__ = ["create_server"]

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_TIMEOUT_S = 30.0
_MAX = [("grpc.max_receive_message_length", 64 * 2**20), ("grpc.max_send_message_length", 64 * 2**20)]
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def create_server(
    callers: Callers, lookup: Lookup, defaults: DefaultAnswers, address: str, keys: Mapping[str, SecretStr]
) -> grpc.aio.Server:
    """A server that is not started yet, with ModelInfer alone. keys: what the Triton at an address asks for."""
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    channels: dict[str, Any] = {}

    def triton(target: str) -> Any:
        if target not in channels:
            channels[target] = grpc.aio.insecure_channel(target, options=_MAX).unary_unary(_METHOD)
        return channels[target]

    async def infer(request: Any, context: Any) -> bytes:
        metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        with spans.span("features.infer", kind="server", parent=metadata.get("traceparent")):
            return await answered(request, context, metadata)

    async def answered(request: Any, context: Any, metadata: Mapping[str, str]) -> bytes:
        try:
            if asked_for(metadata):
                shown = metadata.get(INFER_METADATA, "")
                return bytes(defaults.grpc(metadata.get("x-release", ""), shown, request).SerializeToString())
            caller = callers.of(metadata.get("authorization", ""))
            left_s = min(context.time_remaining() or _TIMEOUT_S, _TIMEOUT_S)
            name, target, headers = await _fill(request, metadata.get("x-release", ""), caller, lookup, left_s)
        except ThemistoError as error:
            await context.abort(CODES.get(error.status, grpc.StatusCode.INTERNAL), str(error))
        sent = tuple(headers.items())
        context.set_trailing_metadata(sent)
        request.model_name, request.model_version = name, ""
        remaining = context.time_remaining()
        key = keys.get(target)
        told = spans.headers(recorded=True) | ({INFER_METADATA: key.get_secret_value()} if key else {})
        try:
            answer: bytes = await triton(target)(
                request.SerializeToString(),
                timeout=min(remaining or _TIMEOUT_S, _TIMEOUT_S),
                metadata=tuple(told.items()) or None,
            )
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", trailing_metadata=sent)
        await context.send_initial_metadata(sent)
        return answer

    server = grpc.aio.server(options=_MAX)
    handler = grpc.unary_unary_rpc_method_handler(infer, request_deserializer=ModelInferRequest.FromString)
    service, _, method = _METHOD[1:].partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(address)
    return server


async def _fill(
    request: Any, header: str, caller: GatewayCaller, lookup: Lookup, left_s: float
) -> tuple[str, str, dict[str, str]]:
    """Replace the keys in `request` by features; the release's name and address, and what to tell."""
    name, release, spec = lookup.release(header, caller)
    keys = set(spec.brought)
    raws = list(request.raw_input_contents)
    if raws and len(raws) != len(request.inputs):
        raise Invalid("raw_input_contents does not fit the inputs.", "Send one entry an input, or none.")
    columns = {t.name: _values(t, raws[i] if raws else None) for i, t in enumerate(request.inputs) if t.name in keys}
    model_inputs = {t.name for t in await lookup.inputs(name, release)}
    kept = [i for i, t in enumerate(request.inputs) if t.name not in keys or t.name in model_inputs]
    given = frozenset(request.inputs[i].name for i in kept)
    filled = await lookup.fill(name, release, spec, columns, given, within_s=left_s)
    inputs = [request.inputs[i] for i in kept]
    del request.inputs[:]
    request.inputs.extend(inputs)
    raw = bool(raws) or not kept  # all inputs are packed one way
    if raw:
        request.raw_input_contents[:] = [raws[i] for i in kept]
    for tensor, values in filled.tensors:
        _add(request, tensor, values, filled.rows, raw=raw)
    return name, release.grpc, filled.headers


def _values(tensor: Any, raw: bytes | None) -> list[Any]:
    if raw is not None:
        return unpack(tensor.datatype, raw)
    values = list(getattr(tensor.contents, _CONTENTS.get(tensor.datatype, "bytes_contents")))
    return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in values]


def _add(request: Any, tensor: Tensor, values: Sequence[Any], rows: int, *, raw: bool) -> None:
    added = request.inputs.add(name=tensor.name, datatype=tensor.datatype)
    added.shape.extend(tensor.of(rows))
    packed = pack(tensor, values)  # also where it travels typed: it says what does not fit
    if raw:
        request.raw_input_contents.append(packed)
    else:
        contents = getattr(added.contents, _CONTENTS[tensor.datatype])
        contents.extend(
            [str(v).encode() for v in values] if tensor.datatype == "BYTES" else unpack(tensor.datatype, packed)
        )
