"""Clusters: where requests go. One a release and protocol, with what answers in its place when it cannot.

The order of answers is Envoy's own: endpoints of falling priority, the next one tried when one fails.
What each of them needs (its name, its key) is metadata of the endpoint, so that no filter decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import SecretStr

from themisto_hub.gateway.messages import Message, lua_filter, typed
from themisto_hub.gateway.routes import Route, RouteTable, Target
from themisto_hub.gateway.shadow import shadow_cluster
from themisto_hub.model_server.infer_key import INFER_HEADER, INFER_METADATA

__all__ = ["UPSTREAM", "clusters"]

UPSTREAM = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECT_TIMEOUT = "0.5s"
_CONNECTIONS = 64
_RETRIES_AT_ONCE = 256
_RETRIES_PCT = 50
_SET = "OVERWRITE_IF_EXISTS_OR_ADD"


def clusters(table: RouteTable) -> Iterator[Message]:
    """All clusters of the table; those of one release share nothing with another's."""
    for route in table.endpoints:
        for target in route.releases:
            for kind in ("http", "grpc"):
                yield _release(table, target, kind)
                if route.looks_up:
                    yield _entity(table, target, kind)
                if target.shadow:
                    yield from _shadows(route, target, kind)
    yield _cluster("features", [_endpoint(table.transformer_http)], http2=False)
    yield _cluster("features.grpc", [_endpoint(table.transformer_grpc)], http2=True)


def _release(table: RouteTable, target: Target, kind: str) -> Message:
    http2 = kind == "grpc"
    header = INFER_METADATA if http2 else INFER_HEADER
    address = target.grpc if http2 else target.http
    key = table.infer_keys.get(address)
    if not target.falls_back:
        filters = [_release_filter(target, kind), *([_sets({header: _plain(key)})] if key else [])]
        return _cluster(f"{target.release}.{kind}", [_endpoint(address)], filters, http2=http2, target=target)
    endpoints = [_endpoint(address, title=target.title, release=target.release, key=_secret(key))]
    for fallback in target.fallbacks:
        place = fallback.grpc if http2 else fallback.http
        endpoints.append(
            _endpoint(
                place,
                title=fallback.title,
                release=fallback.release,
                fallback=fallback.kind,
                key=_secret(table.infer_keys.get(place)),
            )
        )
    endpoints += _default(table, target, kind)
    filters = [_names(header), _release_filter(None, kind)]
    return _cluster(f"{target.release}.{kind}", _ordered(endpoints), filters, http2=http2, target=target)


def _entity(table: RouteTable, target: Target, kind: str) -> Message:
    """The transformer, told which release it looks features up for."""
    http2 = kind == "grpc"
    address = table.transformer_grpc if http2 else table.transformer_http
    endpoints = [_endpoint(address, title=target.title, release=target.release, next="next")]
    endpoints += [_endpoint(address, title=f.title, release=f.release, fallback=f.kind) for f in target.fallbacks]
    endpoints += _default(table, target, kind)
    filters = [_names(INFER_METADATA if http2 else INFER_HEADER)]
    if not target.falls_back:
        filters = [_lua("entity", RELEASE=target.release)]
        endpoints = [_endpoint(address)]
    return _cluster(f"{target.release}.entity.{kind}", _ordered(endpoints), filters, http2=http2, target=target)


def _shadows(route: Route, target: Target, kind: str) -> Iterator[Message]:
    kinds = (kind, f"entity.{kind}") if route.looks_up else (kind,)
    for one in kinds:
        yield shadow_cluster(f"{target.release}.{one}", route.name, http2=kind == "grpc")


def _default(table: RouteTable, target: Target, kind: str) -> list[Message]:
    """The transformer again: it makes as many rows of the declared answer as the request has."""
    if target.default is None:
        return []
    address = table.transformer_grpc if kind == "grpc" else table.transformer_http
    key = _secret(table.default_key)
    return [_endpoint(address, title=target.title, release=target.release, fallback="default", key=key)]


def _endpoint(address: str, **about: str | None) -> Message:
    endpoint: Message = {"endpoint": {"address": _address(address)}}
    told = {name: value for name, value in about.items() if value}
    if told:
        endpoint["metadata"] = {"filter_metadata": {"themisto": told}}
    return endpoint


def _ordered(endpoints: list[Message]) -> list[Message]:
    """Each but the last has a next one: what the last says stands, whatever it is."""
    for endpoint in endpoints[:-1]:
        endpoint["metadata"]["filter_metadata"]["themisto"]["next"] = "next"
    return endpoints


def _cluster(
    name: str,
    endpoints: Sequence[Message],
    filters: Sequence[Message] = (),
    *,
    http2: bool,
    target: Target | None = None,
) -> Message:
    protocol: Message = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    options = typed(UPSTREAM, explicit_http_config=protocol)
    if filters:
        codec = typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec")
        options["http_filters"] = [*filters, {"name": "envoy.filters.http.upstream_codec", "typed_config": codec}]
    at_once = target.max_concurrent if target else 512
    # Envoy ends a cluster's name in its metrics at the first dot; a version keeps its own there: credit/v2--1.
    alias = {"alt_stat_name": name.replace(".v", "/v", 1)} if target and "." in target.release else {}
    if target is None and "." in name:
        alias = {"alt_stat_name": name.replace(".", "_")}
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        **alias,
        type="STATIC" if all(_is_numeric(one) for one in endpoints) else "STRICT_DNS",
        connect_timeout=_CONNECT_TIMEOUT,
        per_connection_buffer_limit_bytes=32 * 2**20,
        typed_extension_protocol_options={UPSTREAM: options},
        load_assignment={
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [one], **({"priority": number} if number else {})}
                for number, one in enumerate(endpoints)
            ],
        },
        circuit_breakers={
            # The release's bulkhead: what is over it is answered 503 at once. Retries have a budget of their own:
            # enough that nobody loses a request while Triton restarts, never more than half of a large load.
            "thresholds": [
                {
                    "max_connections": min(_CONNECTIONS, at_once),
                    "max_pending_requests": max(1, at_once // 2),
                    "max_requests": at_once,
                    "retry_budget": {
                        "budget_percent": {"value": _RETRIES_PCT},
                        "min_retry_concurrency": _RETRIES_AT_ONCE,
                    },
                }
            ]
        },
        # Only what says "not there" counts: a model's own errors are the request's, not the server's.
        outlier_detection={
            "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "enforcing_consecutive_5xx": 0,
            "interval": "1s",
            "base_ejection_time": "2s",
            **({"max_ejection_percent": 100} if len(endpoints) > 1 else {}),
        },
    )


def _release_filter(target: Target | None, kind: str) -> Message:
    return _lua("release", RELEASE=target.release if target else None, GRPC="1" if kind == "grpc" else None)


def _lua(script: str, **constants: str | None) -> Message:
    # Not by the name of the listener's filter, which routes configure.
    return {"name": "release", "typed_config": lua_filter(script, **constants)}


def _names(key_header: str) -> Message:
    """What an endpoint of a chain is called, asks for and stands for, from its own metadata, whatever was sent."""
    told = {"x-release": "release", "x-fallback": "fallback", key_header: "key"}
    said = {"x-release": "title", "x-fallback": "fallback"}
    answer = {name: f"%UPSTREAM_METADATA(themisto:{key})%" for name, key in said.items()}
    answer["x-next"] = "%UPSTREAM_METADATA(themisto:next)% %RESP(:status)% %RESP(grpc-status)%"
    return _sets({name: f"%UPSTREAM_METADATA(themisto:{key})%" for name, key in told.items()}, answer)


def _sets(request: dict[str, str], response: dict[str, str] | None = None) -> Message:
    """Sets headers, whatever the caller sent under their names."""
    mutations: Message = {"request_mutations": [_put(name, value) for name, value in request.items()]}
    if response:
        mutations["response_mutations"] = [_put(name, value) for name, value in response.items()]
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": typed("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation", mutations=mutations),
    }


def _put(name: str, value: str) -> Message:
    return {"append": {"header": {"key": name, "value": value}, "append_action": _SET}}


def _secret(key: SecretStr | None) -> str | None:
    return key.get_secret_value() if key else None


def _plain(key: SecretStr) -> str:
    return key.get_secret_value().replace("%", "%%")  # what stands between two is a command to Envoy


def _is_numeric(endpoint: Message) -> bool:
    address = endpoint["endpoint"]["address"]
    return "pipe" in address or address["socket_address"]["address"].replace(".", "").isdigit()


def _address(value: str) -> Message:
    if value.startswith("unix:"):
        return {"pipe": {"path": value.removeprefix("unix:")}}
    host, _, port = value.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
