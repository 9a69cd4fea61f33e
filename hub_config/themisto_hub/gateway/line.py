"""Line: what Envoy writes of a request, and how it is read again.

Plain text: on a line of JSON with twenty names Envoy spends three times what it does on a token. Fields are parted
by a carriage return, which no header may hold (RFC 9110, 5.5), nor a token's caller (`rights.deny_list`); bodies are
base64. The last field is three, by the Lua filters; it is empty where a request did not come that far.
"""

from __future__ import annotations

from collections.abc import Mapping

from themisto_hub.gateway.headers import TRACE_ID
from themisto_hub.gateway.messages import Message
from themisto_hub.gateway.render import CALLER

__all__ = ["NAMES", "SHADOW_FIELDS", "line_format", "read_line"]

SHADOW_FIELDS = {"shadow": "1", "caller": "%DYNAMIC_METADATA(log:caller)%"}
"""What a copy's line says otherwise: it has no token of its own, and nothing names its release but its cluster."""

_FIELDS = {
    "time": "%START_TIME(%s.%6f)%",
    "request_id": "%REQ(x-request-id)%",
    "shadow": "",
    "caller": CALLER,
    "key": "%REQ(themisto-key)%",
    "entity": "%DYNAMIC_METADATA(log:entity)%",
    "header_length": "%REQ(inference-header-content-length)%",
    "release": "%RESP(x-release)%",
    "answer_header_length": "%RESP(inference-header-content-length)%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "flags": "%RESPONSE_FLAGS%",
    "latency_ms": "%DURATION%",
    "response": "%DYNAMIC_METADATA(log:response)%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "fallback": "%RESP(x-fallback)%",
    "feature_age_s": "%RESP(x-feature-age-s)%",
    "trace_id": TRACE_ID,
}
_BY_LUA = ("path", "endpoint", "request")
_BETWEEN = "\r"

NAMES = (*_FIELDS, *_BY_LUA)
"""The fields of a line in their order."""


def line_format(fields: Mapping[str, str] | None = None) -> Message:
    """Envoy's format of a line; `fields` says some of them otherwise."""
    commands = [*(_FIELDS | dict(fields or {})).values(), "%DYNAMIC_METADATA(log:request)%"]
    return {"text_format_source": {"inline_string": _BETWEEN.join(commands) + "\n"}, "omit_empty_values": True}


def read_line(raw: bytes) -> dict[str, str | None]:
    """The fields by name, None where nothing was to be said. Raises ValueError for what is no such line."""
    values = raw.decode(errors="replace").split(_BETWEEN)
    if len(values) == len(_FIELDS) + 1 and not values[-1]:
        values += [""] * (len(_BY_LUA) - 1)
    return {name: value or None for name, value in zip(NAMES, values, strict=True)}
