"""Limits: how many requests a second an endpoint takes, whoever asks and by whichever way in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from themisto_hub.gateway.messages import Message, typed

if TYPE_CHECKING:
    from themisto_hub.gateway.routes import RouteTable

__all__ = ["RATED", "endpoint_rates"]

RATED = "themisto.rate"
"""Metadata of a limited endpoint's routes: all of them share the bucket of the name they give."""


def endpoint_rates(table: RouteTable) -> Message:
    """Envoy's local rate limit: a bucket an endpoint that has a rate; the others pass."""
    endpoint = {
        "descriptor_key": "endpoint",
        "source": "ROUTE_ENTRY",
        "metadata_key": {"key": RATED, "path": [{"key": "endpoint"}]},
    }
    rated = {route.name: route.rate_per_s for route in table.endpoints if route.rate_per_s is not None}
    always = {"default_value": {"numerator": 100 if rated else 0}}
    unbounded = {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"}
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="endpoint",
        filter_enabled=always,
        filter_enforced=always,
        token_bucket=unbounded,
        rate_limited_as_resource_exhausted=True,
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}}],
        descriptors=[
            {"entries": [{"key": "endpoint", "value": name}], "token_bucket": _bucket(per_s)}
            for name, per_s in rated.items()
        ],
        rate_limits=[{"actions": [{"metadata": endpoint}]}],
    )


def _bucket(per_s: int) -> Message:
    return {"max_tokens": per_s, "tokens_per_fill": per_s, "fill_interval": "1s"}
