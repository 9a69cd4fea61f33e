"""Shadow: copies of requests take a way of their own through Envoy, so that their answers are in the prediction log.

A mirrored request has no access log. Its cluster therefore leads back into Envoy, to a socket that only
Envoy's own user opens; that listener logs what the shadow answers and passes the request on. The
clusters in between are small: what a slow shadow cannot take is dropped, and nobody waits for it.
"""

from __future__ import annotations

from themisto_hub.gateway.messages import Message, lua_filter, typed

__all__ = ["SHADOW_SOCKET", "shadow_cluster", "shadow_filters", "shadow_routes"]

SHADOW_SOCKET = "shadow.sock"
"""Relative to Envoy's folder, as the admin's is."""

AT_ONCE = 32
"""Copies that one shadow may have on their way; the rest is dropped and counted by Envoy (upstream_rq_*_overflow)."""

_UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_SET = "OVERWRITE_IF_EXISTS_OR_ADD"


def shadow_cluster(leads_to: str, endpoint: str, *, http2: bool) -> Message:
    """The way of a copy to the shadow's own cluster `leads_to`."""
    name = f"{leads_to}.shadow"
    protocol: Message = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    headers = {"x-shadow": leads_to, "x-endpoint": endpoint}
    sets = [
        {"append": {"header": {"key": key, "value": value}, "append_action": _SET}} for key, value in headers.items()
    ]
    mutation = typed(
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation", mutations={"request_mutations": sets}
    )
    codec = typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")
    options = typed(_UPSTREAM, explicit_http_config=protocol)
    options["http_filters"] = [
        {"name": "envoy.filters.http.header_mutation", "typed_config": mutation},
        {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
    ]
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STATIC",
        connect_timeout="0.5s",
        per_connection_buffer_limit_bytes=32 * 2**20,
        typed_extension_protocol_options={_UPSTREAM: options},
        load_assignment={
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": SHADOW_SOCKET}}}}]}],
        },
        circuit_breakers={
            "thresholds": [
                {
                    "max_connections": AT_ONCE,
                    "max_pending_requests": AT_ONCE // 2,
                    "max_requests": AT_ONCE,
                    "max_retries": 0,
                }
            ]
        },
    )


def shadow_filters(router: Message) -> list[Message]:
    """Both bodies for the log, and on."""
    return [{"name": "envoy.filters.http.lua", "typed_config": lua_filter("shadow")}, router]


def shadow_routes(deadline_s: int) -> Message:
    """To the cluster that the copy's own cluster named; once."""
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster_header": "x-shadow", "timeout": f"{deadline_s}s"},
        "request_headers_to_remove": ["x-caller", "x-fallback"],
    }
    return {"name": "shadow", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}
