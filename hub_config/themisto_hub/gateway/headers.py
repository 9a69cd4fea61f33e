"""Headers: what a caller may say beside the protocol, put into Envoy's own words by its stock filters.

`themisto-timeout-ms` (HTTP) is how long the caller waits; gRPC says the same by `grpc-timeout`. Either shortens
the gateway's own deadline, never lengthens it, and what is left goes on to whoever answers.
`traceparent` (W3C Trace Context) names the trace that a request belongs to: the answer and the log name it too.
"""

from __future__ import annotations

from themisto_hub.gateway.messages import Message, typed

__all__ = ["TRACE_ID", "deadline_filter", "decompression_filter", "trace_answer", "trace_filter", "unforged"]

TRACE_ID = "%DYNAMIC_METADATA(trace:id)%"
_TRACEPARENT = r"^..-([0-9a-f]{32})-.*|.*"
"""The trace id, or nothing: what is no traceparent is not repeated to anybody."""


def unforged() -> list[Message]:
    """Takes away what only the gateway says, before anything is routed by it, and a word that spans would repeat."""
    names = ("x-endpoint", "x-entity", "x-release", "x-fallback", "x-client-trace-id")
    mutations = [{"remove": name} for name in names]
    config = typed("envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=mutations)
    return [{"name": "unforged", "typed_config": config}]


def deadline_filter() -> Message:
    """The caller's patience as the header that Envoy's router reads; Envoy caps it by the route's longest duration."""
    header = {"key": "x-envoy-upstream-rq-timeout-ms", "value": "%REQ(themisto-timeout-ms)%"}
    mutations = [{"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]
    return {
        "name": "deadline",
        "typed_config": typed(
            "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            mutations={"request_mutations": mutations},
        ),
    }


def decompression_filter() -> Message:
    """Requests of `content-encoding: gzip` are unpacked here: what is hidden could be neither checked nor logged.

    More than a hundred times its size is no request; what comes out counts against the longest body.
    """
    gzip = typed("envoy.extensions.compression.gzip.decompressor.v3.Gzip", window_bits=15)
    off = {"default_value": False, "runtime_key": "themisto.decompress_answers"}
    return {
        "name": "decompression",
        "typed_config": typed(
            "envoy.extensions.filters.http.decompressor.v3.Decompressor",
            decompressor_library={"name": "gzip", "typed_config": gzip},
            request_direction_config={"advertise_accept_encoding": False},
            response_direction_config={"common_config": {"enabled": off}},
        ),
    }


def trace_filter() -> Message:
    """The trace id of `traceparent` as metadata, for the answer and the log."""
    rule = {
        "header": "traceparent",
        "on_header_present": {
            "metadata_namespace": "trace",
            "key": "id",
            "type": "STRING",
            "regex_value_rewrite": {"pattern": {"regex": _TRACEPARENT}, "substitution": r"\1"},
        },
    }
    return {
        "name": "trace",
        "typed_config": typed("envoy.extensions.filters.http.header_to_metadata.v3.Config", request_rules=[rule]),
    }


def trace_answer() -> Message:
    """`x-trace-id` of the answer; not there where the request named no trace."""
    return {"header": {"key": "x-trace-id", "value": TRACE_ID}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
