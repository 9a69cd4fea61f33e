"""Bootstrap: what Envoy is started with. Listeners and their filters; clusters, routes and tokens come as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from themisto_hub.gateway.headers import deadline_filter, decompression_filter, trace_filter, unforged
from themisto_hub.gateway.line import SHADOW_FIELDS, line_format
from themisto_hub.gateway.messages import Message, lua_filter, typed
from themisto_hub.gateway.render import DEADLINE_S
from themisto_hub.gateway.shadow import SHADOW_SOCKET, shadow_filters, shadow_routes
from themisto_hub.gateway.tracing import TRACED_ID, collector, trace_filters, tracing
from themisto_hub.settings import Deployment

__all__ = ["ACCESS_LOG", "ADMIN_SOCKET", "GatewaySettings", "bootstrap"]

ACCESS_LOG = "predictions.log"
ADMIN_SOCKET = "admin.sock"
"""Relative to Envoy's folder: a socket's path has room for 107 characters."""

_HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {
    "name": "envoy.filters.http.router",
    # Dynamic ones are counted by name at each answer; what docs and alerts read is not among them.
    "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", dynamic_stats=False),
}


class GatewaySettings(BaseSettings):
    """Limits of the gateway."""

    model_config = SettingsConfigDict(env_prefix="THEMISTO_GATEWAY_", frozen=True, extra="ignore")

    concurrency: int = Field(1, description="Envoy's worker threads", ge=1, le=64)
    caller_per_s: int = Field(2000, description="requests a second for one caller; more are answered 429", ge=1)
    max_body_bytes: int = Field(8 * 2**20, description="longest request or answer; more is 413 or 500", ge=1024)
    rotate_s: int = Field(300, description="seconds after which a new raw access log begins and the old one ends", ge=1)
    backlog_bytes: int = Field(
        256 * 2**20, description="raw access log that may wait for Parquet; more is given up and counted", ge=4096
    )
    rotate_bytes: int = Field(64 * 2**20, description="raw access log after which a new one begins", ge=1024)
    feature_deadline_ms: int = Field(
        250, description="how long a prediction by entity key waits for its features", ge=1, le=10_000
    )
    keep_days: int = Field(366, description="predictions are kept that long", ge=1)


def bootstrap(settings: Deployment, limits: GatewaySettings) -> Message:
    """Envoy's bootstrap message."""
    ports, xds = settings.ports, settings.xds
    return {
        "node": {"id": "gateway", "cluster": "themisto"},
        # The admin interface can stop Envoy: a socket that only its own user opens, and the two pages others need.
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _from_file(xds, "cds.json")},
        "static_resources": {
            "listeners": [
                _listener("http", ports.gateway_http, [_infer("http", settings, limits)], limits),
                _listener("grpc", ports.gateway_grpc, [_infer("grpc", settings, limits)], limits),
                _listener("status", ports.envoy_admin, [_status()], limits),
                _shadow(settings, limits),
            ],
            "clusters": [_admin_cluster(), *collector(settings)],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=10_000,
                    ),
                }
            ]
        },
    }


def _from_file(folder: Path, name: str) -> Message:
    source = {"path": str(folder / name), "watched_directory": {"path": str(folder)}}
    return {"path_config_source": source, "resource_api_version": "V3"}


def _listener(name: str, port: int, filters: list[Message], limits: GatewaySettings) -> Message:
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "per_connection_buffer_limit_bytes": limits.max_body_bytes,
        "filter_chains": [{"filters": filters}],
    }


def _infer(name: str, settings: Deployment, limits: GatewaySettings) -> Message:
    """Token, deny list, rate, packing, deadline, trace, names, rights, route: in this order."""
    xds = settings.xds
    return _manager(
        name,
        http_filters=[
            _discovered("jwt", xds, "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"),
            _discovered("deny", xds, "envoy.extensions.filters.http.rbac.v3.RBAC"),
            {"name": "rate", "typed_config": _rate(limits.caller_per_s)},
            decompression_filter(),
            deadline_filter(),
            trace_filter(),
            {"name": "envoy.filters.http.lua", "typed_config": lua_filter("request")},
            *trace_filters(settings),
            _discovered("rates", xds, "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"),
            {
                "name": "rbac",
                "typed_config": typed(
                    "envoy.extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": {}}
                ),
            },
            _ROUTER,
        ],
        rds={"route_config_name": "infer", "config_source": _from_file(xds, "rds.json")},
        access_log=[_access_log(_traced(settings))],
        early_header_mutation_extensions=unforged(),
        **tracing(settings, "infer"),
    )


def _shadow(settings: Deployment, limits: GatewaySettings) -> Message:
    manager = _manager(
        "shadow",
        http_filters=[trace_filter(), *trace_filters(settings), *shadow_filters(_ROUTER)],
        route_config=shadow_routes(DEADLINE_S),
        access_log=[_access_log(SHADOW_FIELDS | _traced(settings))],
        preserve_external_request_id=True,
        **tracing(settings, "shadow"),
    )
    address = {"pipe": {"path": SHADOW_SOCKET, "mode": 0o600}}
    return _listener("shadow", 0, [manager], limits) | {"address": address}


def _manager(name: str, **fields: Any) -> Message:
    manager = typed(
        _HCM,
        stat_prefix=name,
        codec_type="AUTO",
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        server_name="themisto",
        always_set_request_id_in_response=True,
        stream_idle_timeout=f"{3 * DEADLINE_S}s",
        request_timeout=f"{3 * DEADLINE_S}s",
        request_headers_timeout="10s",
        common_http_protocol_options={"idle_timeout": "600s"},
        http2_protocol_options={"max_concurrent_streams": 1024},
        local_reply_config=_local_replies(),
        **fields,
    )
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _discovered(name: str, xds: Path, kind: str) -> Message:
    """A filter from a file: keys and denials change without a restart; none yet means nobody passes."""
    source = _from_file(xds, f"{name}.json")
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [f"type.googleapis.com/{kind}"]}}


def _rate(per_s: int) -> Message:
    bucket = {"max_tokens": per_s, "tokens_per_fill": per_s, "fill_interval": "1s"}
    unbounded = {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100}}
    caller = {
        "descriptor_key": "caller",
        "metadata_key": {"key": "envoy.filters.http.jwt_authn", "path": [{"key": "jwt"}, {"key": "sub"}]},
    }
    return typed(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="caller",
        filter_enabled=always,
        filter_enforced=always,
        token_bucket=unbounded,
        max_dynamic_descriptors=10_000,
        rate_limited_as_resource_exhausted=True,
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}}],
        descriptors=[{"entries": [{"key": "caller"}], "token_bucket": bucket}],
        rate_limits=[{"actions": [{"metadata": caller}]}],
    )


def _traced(settings: Deployment) -> dict[str, str]:
    return {"trace_id": TRACED_ID} if settings.traces_url else {}


def _access_log(fields: Mapping[str, str]) -> Message:
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"not_health_check_filter": {}},
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=ACCESS_LOG,
            log_format=line_format(fields),
        ),
    }


def _local_replies() -> Message:
    """Envoy's own answers in the shape of the Open Inference Protocol's errors."""
    full = {"response_flag_filter": {"flags": ["UO"]}}
    grpc = {"header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}}}
    denied, fine = _status_is(403), _status_is(200)
    said = "this token may not do this: it needs the endpoint's group and the scope for it, and must not be revoked"
    overflow = "this release answers as many requests at once as it may; try again in a moment"
    plain = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}
    return {
        "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
        "mappers": [
            {
                "filter": {"and_filter": {"filters": [grpc, full]}},
                "body": {"inline_string": overflow},
                "body_format_override": plain,
            },
            {"filter": full, "body": {"inline_string": overflow}},
            {
                "filter": {"and_filter": {"filters": [grpc, denied]}},
                "body": {"inline_string": said},
                "body_format_override": plain,
            },
            {"filter": {"or_filter": {"filters": [grpc, fine]}}, "body_format_override": plain},
            {"filter": denied, "body": {"inline_string": said}},
        ],
    }


def _status_is(code: int) -> Message:
    value = {"default_value": code, "runtime_key": f"themisto.status_{code}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _status() -> Message:
    get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    routes = [{"match": {"path": path, "headers": get}, "route": {"cluster": "admin"}} for path in _PAGES]
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    return _manager("status", http_filters=[_ROUTER], route_config={"name": "status", "virtual_hosts": hosts})


_PAGES = ("/ready", "/stats/prometheus")


def _admin_cluster() -> Message:
    endpoint = {"endpoint": {"address": {"pipe": {"path": ADMIN_SOCKET}}}}
    return {
        "name": "admin",
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": "admin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
