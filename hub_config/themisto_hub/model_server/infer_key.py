"""Infer key: what a tier's Triton asks of whoever wants an answer, so that nobody passes by the gateway on loopback.

Envoy, the transformer and the control plane hold it, bound to the addresses of that Triton: no other
server is ever sent it. A group's own Triton has none; its sockets open to the gateway's group alone.
"""

from __future__ import annotations

from pydantic import SecretStr

from themisto_hub.settings import Deployment, Keys

__all__ = ["INFER_HEADER", "INFER_METADATA", "infer_keys", "tier_key"]

INFER_HEADER = "themisto-infer-key"
"""Header that carries it over HTTP."""

INFER_METADATA = f"triton-grpc-protocol-{INFER_HEADER}"
"""The same over gRPC, where Triton puts a prefix of its own before the name."""


def tier_key(keys: Keys, tier: str) -> SecretStr | None:
    """The tier's key, where this process was given it."""
    return keys.triton_infer_dev if tier == "dev" else keys.triton_infer_prod


def infer_keys(settings: Deployment, keys: Keys) -> dict[str, SecretStr]:
    """By `host:port`, HTTP and gRPC: the keys that this process was given."""
    found: dict[str, SecretStr] = {}
    for tier, (http, grpc, _) in settings.ports.triton.items():
        key = tier_key(keys, tier)
        if key is not None:
            found |= {f"127.0.0.1:{port}": key for port in (http, grpc)}
    return found
