"""Tracing: Envoy's own spans, one for a request and one for each release that was tried, where a collector is named.

A span has the release, what stood in for it, the status and the request's id, by which the prediction log
has the rest. It has nobody's data: no caller, no address, no query, no key. What Envoy tags by itself and
would tell such things is covered.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from themisto.span_settings import SpanSettings
from themisto_hub.gateway.messages import Message, typed

__all__ = ["TRACED_ID", "collector", "trace_filters", "tracing"]

TRACED_ID = "%TRACE_ID%"
"""The trace of a request, also of one that brought none and whose trace began here."""

_SAMPLERS = "envoy.extensions.tracers.opentelemetry.samplers.v3"
_TIMEOUT = "2s"
_WAITING_SPANS = 4096
"""What a slow collector may leave waiting; the rest is dropped, and counted by Envoy."""
_CA_FILE = "/etc/ssl/certs/ca-certificates.crt"

_TAGS: tuple[Message, ...] = (
    {"tag": "themisto.endpoint", "value": "%DYNAMIC_METADATA(span:endpoint)%"},
    {"tag": "themisto.release", "value": "%RESP(x-release)%"},
    {"tag": "themisto.fallback", "value": "%RESP(x-fallback)%"},
    # Envoy's own, covered: a query, an address, a word of the caller's may be somebody's.
    {"tag": "http.url", "value": "%PATH(NQ)%"},
    {"tag": "peer.address", "literal": {"value": "-"}},
    {"tag": "user_agent", "literal": {"value": "-"}},
    {"tag": "downstream_cluster", "literal": {"value": "-"}},
)


def tracing(settings: SpanSettings, what: str) -> Message:
    """The connection manager's part: `{"tracing": …}`, or nothing where no collector is named."""
    if settings.traces_url is None:
        return {}
    provider = typed(
        "envoy.config.trace.v3.OpenTelemetryConfig",
        service_name="gateway",
        http_service={"http_uri": {"uri": settings.traces_url, "cluster": "collector", "timeout": _TIMEOUT}},
        sampler=_sampler(settings),
        max_cache_size=_WAITING_SPANS,
    )
    return {
        "tracing": {
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": provider},
            "spawn_upstream_span": True,
            "operation": what,
            "upstream_operation": "ask %UPSTREAM_CLUSTER%",
            "custom_tags": list(_TAGS),
        }
    }


def trace_filters(settings: SpanSettings) -> list[Message]:
    """The endpoint's name for the span, and the trace's id for the answer; after what reads the name of a gRPC call."""
    if settings.traces_url is None:
        return []
    rules = [_endpoint(":path", r"^/v2/models/([^/?]+).*|.*"), _endpoint("x-endpoint", r"(.*)")]
    header = {"key": "x-trace-id", "value": TRACED_ID}
    answer = [{"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]
    return [
        {
            "name": "span_endpoint",
            "typed_config": typed("envoy.extensions.filters.http.header_to_metadata.v3.Config", request_rules=rules),
        },
        {
            "name": "trace_answer",
            "typed_config": typed(
                "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
                mutations={"response_mutations": answer},
            ),
        },
    ]


def collector(settings: SpanSettings) -> list[Message]:
    """The cluster that spans are sent to. Nobody waits for it: neither a request nor the start."""
    if settings.traces_url is None:
        return []
    url = urlsplit(settings.traces_url)
    tls = url.scheme == "https"
    address = {"address": url.hostname, "port_value": url.port or (443 if tls else 80)}
    thresholds = {"max_connections": 4, "max_pending_requests": 64, "max_requests": 64, "max_retries": 0}
    cluster: Message = {
        "name": "collector",
        "type": "STRICT_DNS",
        "wait_for_warm_on_init": False,
        "connect_timeout": "0.5s",
        "circuit_breakers": {"thresholds": [thresholds]},
        "load_assignment": {
            "cluster_name": "collector",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": address}}}]}],
        },
    }
    if tls:
        trusted = {"trusted_ca": {"filename": os.environ.get("SSL_CERT_FILE") or _CA_FILE}}
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": typed(
                "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                sni=url.hostname,
                common_tls_context={"validation_context": _validation(trusted, str(url.hostname))},
            ),
        }
    return [cluster]


def _validation(trusted: Message, host: str) -> Message:
    names = [{"san_type": kind, "matcher": {"exact": host}} for kind in ("DNS", "IP_ADDRESS")]
    return trusted | {"match_typed_subject_alt_names": names}


def _sampler(settings: SpanSettings) -> Message:
    share = {"numerator": round(settings.share * 1_000_000), "denominator": "MILLION"}
    root = _extension("trace_id_ratio_based", "TraceIdRatioBasedSamplerConfig", sampling_percentage=share)
    return (
        _extension("parent_based", "ParentBasedSamplerConfig", wrapped_sampler=root)
        if settings.follows_caller
        else root
    )


def _extension(name: str, kind: str, **fields: object) -> Message:
    return {
        "name": f"envoy.tracers.opentelemetry.samplers.{name}",
        "typed_config": typed(f"{_SAMPLERS}.{kind}", **fields),
    }


def _endpoint(header: str, pattern: str) -> Message:
    value = {"regex_value_rewrite": {"pattern": {"regex": pattern}, "substitution": r"\1"}}
    return {
        "header": header,
        "on_header_present": {"metadata_namespace": "span", "key": "endpoint", "type": "STRING"} | value,
    }
