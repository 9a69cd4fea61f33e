"""`themisto.features.v2.Features/Read`: the read API over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from themisto.errors import ThemistoError, TooLarge
from themisto.features.protocol import features_pb2 as pb
from themisto.spans import span
from themisto_hub.gateway.feature_api import FeatureApi, ReadRequest
from themisto_hub.gateway.feature_callers import Callers
from themisto_hub.gateway.feature_messages import columns_in, message_of
from themisto_hub.gateway.feature_paths import READ_METHOD

__all__ = ["CODES", "add_reads"]

CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What gRPC calls the errors of the tree."""


def add_reads(server: grpc.aio.Server, api: FeatureApi, callers: Callers, max_body_bytes: int) -> None:
    """The method, on a server that is not started yet."""

    async def read(request: Any, context: Any) -> Any:
        metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
        with span("features.get", kind="server", parent=metadata.get("traceparent")):
            try:
                caller = callers.of(metadata.get("authorization", ""))
                if request.ByteSize() > max_body_bytes:
                    raise TooLarge(f"The request is over {max_body_bytes / 2**20:g} MiB.", "Send less at once.")
                asked = ReadRequest(
                    entities=columns_in(request.entities),
                    features=list(request.features) or None,
                    history=request.history or None,
                    group=request.group or None,
                )
                return message_of(await api.read(request.service, asked, caller, patience_s=context.time_remaining()))
            except ThemistoError as error:
                await context.abort(CODES.get(error.status, grpc.StatusCode.INTERNAL), str(error))

    service, _, method = READ_METHOD[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(read, pb.ReadRequest.FromString, pb.ReadResponse.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
