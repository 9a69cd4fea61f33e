"""Messages: Envoy's configuration as typed JSON, and the Lua texts that go into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["SERVICE", "Message", "lua_filter", "lua_text", "typed"]

Message = dict[str, Any]

SERVICE = "/inference.GRPCInferenceService"
"""The Open Inference Protocol's gRPC service."""


def typed(kind: str, **fields: Any) -> Message:
    """A message that says its type."""
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def lua_filter(name: str, **constants: str | None) -> Message:
    """The Lua filter with the text of lua/<name>.lua."""
    return typed(
        "envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": lua_text(name, **constants)}
    )


def lua_text(name: str, **constants: str | None) -> str:
    """The text of lua/<name>.lua; constants are JSON strings, which Lua reads as its own."""
    text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
    texts = {key: "nil" if value is None else json.dumps(value) for key, value in constants.items()}
    head = "".join(f"local {key} = {text}\n" for key, text in texts.items())
    return head + text
