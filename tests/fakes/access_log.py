"""Lines of the access log as Envoy writes them; that it does, the gateway's integration tests show."""

from __future__ import annotations

from collections.abc import Mapping

from themisto_hub.gateway.line import NAMES


def raw_line(fields: Mapping[str, object]) -> str:
    return "\r".join(str(fields.get(name) or "") for name in NAMES) + "\n"
