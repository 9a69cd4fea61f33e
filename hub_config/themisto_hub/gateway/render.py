"""Render: a route table as Envoy's own messages (clusters, routes, token check, deny list). Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from themisto_hub.gateway.clusters import clusters
from themisto_hub.gateway.fallback import StandIn
from themisto_hub.gateway.feature_callers import Trusted
from themisto_hub.gateway.feature_paths import READ_METHOD, READ_PATH
from themisto_hub.gateway.feature_table import FeatureRelease, FeatureTable
from themisto_hub.gateway.headers import trace_answer
from themisto_hub.gateway.limits import RATED, endpoint_rates
from themisto_hub.gateway.messages import SERVICE, Message, lua_text, typed
from themisto_hub.gateway.rights import allow_anyone, allow_callers, allow_readers, deny_list, token_check
from themisto_hub.gateway.routes import Route, RouteTable, Target

__all__ = ["CALLER", "DEADLINE_S", "feature_table", "render"]

DEADLINE_S = 10
CALLER = "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:jwt:sub)%"
_PRIORITIES = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
_FAILED = r"next (5[0-9][0-9] .*|200 (2|4|8|13|14))"
"""`x-next` of an answer that another can better: a server's error, not the caller's, where there is a next one."""
_BY_KEY = {"name": "x-entity", "string_match": {"exact": "1"}}


def render(table: RouteTable) -> dict[str, Message]:
    """The files of `routes.FILES`, by name."""
    return {
        "cds.json": {"resources": list(clusters(table))},
        "jwt.json": {"resources": [_extension("jwt", token_check(table.all_issuers))]},
        "deny.json": {"resources": [_extension("deny", deny_list(table.denied_jti))]},
        "rates.json": {"resources": [_extension("rates", endpoint_rates(table))]},
        "rds.json": {"resources": [_route_configuration(table)]},
    }


def feature_table(table: RouteTable) -> FeatureTable:
    """The transformer's part of the table."""
    return FeatureTable(
        releases={
            one.release: FeatureRelease(
                endpoint=route.name,
                group=route.group,
                feature_service=one.feature_service or target.feature_service or route.feature_service,
                feature_group=one.feature_group if one.feature_service else target.feature_group,
                http=one.http,
                grpc=one.grpc,
            )
            for route in table.endpoints
            for target in route.releases
            for one in _answering(target)
            if route.feature_service and route.looks_up
        },
        defaults={t.release: t.default for route in table.endpoints for t in route.releases if t.default},
        denied_jti=frozenset(table.denied_jti),
        issuers=tuple(Trusted(issuer=i.issuer, jwks=dict(i.jwks), audience=i.audience) for i in table.all_issuers),
    )


def _answering(target: Target) -> Iterator[Target | StandIn]:
    """The release and what stands in for it."""
    yield target
    yield from target.fallbacks


def _extension(name: str, config: Message) -> Message:
    return typed("envoy.config.core.v3.TypedExtensionConfig", name=name, typed_config=config)


# Routes: what is not listed is refused.


def _route_configuration(table: RouteTable) -> Message:
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name="infer",
        virtual_hosts=[
            {
                "name": "all",
                "domains": ["*"],
                "matcher": _by_name(table),
                "response_headers_to_add": [trace_answer()],
            }
        ],
    )


def _by_name(table: RouteTable) -> Message:
    """An endpoint's routes are found by its name in a tree: the others cost its requests nothing.

    HTTP names it in the path, whose longest known beginning counts; gRPC in `x-endpoint`, by the Lua filter.
    """
    over_http = {f"/v2/models/{route.name}": _in_order(_http_routes(route)) for route in table.endpoints}
    over_grpc = {route.name: _in_order(_grpc_routes(route)) for route in table.endpoints}
    calls = _tree("x-endpoint", "exact_match_map", over_grpc, otherwise=_in_order(_grpc_health(table)))
    return _tree(
        ":path",
        "prefix_match_map",
        over_http | {f"{SERVICE}/": {"matcher": calls} if over_grpc else _in_order(())},
        otherwise=_in_order([*_health(), *_feature_reads()]),
    )


def _tree(header: str, kind: str, branches: dict[str, Message], otherwise: Message) -> Message:
    value = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=header)
    tree = {"input": {"name": header, "typed_config": value}, kind: {"map": branches}}
    return {"matcher_tree": tree, "on_no_match": otherwise}


def _in_order(routes: Iterable[Message]) -> Message:
    """The first of them that matches; where none does, known callers hear that there is nothing."""
    listed = typed("envoy.config.route.v3.RouteList", routes=[*routes, _nothing()])
    return {"action": {"name": "routes", "typed_config": listed}}


def _health() -> Iterator[Message]:
    server = {"name": "themisto", "version": "2", "extensions": ["binary_tensor_data"]}
    for path, body in (("/v2", json.dumps(server)), ("/v2/health/live", ""), ("/v2/health/ready", "")):
        answer: Message = {"status": 200, "body": {"inline_string": body}} if body else {"status": 200}
        header = {"header": {"key": "content-type", "value": "application/json"}}
        yield {
            "match": {"path": path},
            "direct_response": answer,
            "response_headers_to_add": [header | {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
            "typed_per_filter_config": {"rbac": allow_anyone()},
        }


def _grpc_health(table: RouteTable) -> Iterator[Message]:
    """Envoy cannot answer a gRPC call by itself: the first endpoint's Triton does."""
    for route in table.endpoints[:1]:
        yield {
            "match": {"safe_regex": {"regex": f"{SERVICE}/Server(Live|Ready|Metadata)"}},
            "route": {"cluster": f"{route.releases[0].release}.grpc", "timeout": "2s"},
            "request_headers_to_remove": ["authorization"],
            "typed_per_filter_config": {"rbac": allow_anyone()},
        }


def _http_routes(route: Route) -> Iterator[Message]:
    """Exact matches first: routes are tried in order, and a pattern costs what a comparison does not."""
    model = f"/v2/models/{route.name}"
    infer = [{"path": f"{model}/infer"}, {"path": f"{model}/versions/1/infer"}]
    if route.looks_up:
        for match in infer:
            yield _split(route, match | {"headers": [_BY_KEY]}, "entity.http")
    for match in infer:
        yield _split(route, match, "http")
    pattern = model.replace(".", r"\.")
    about = {"safe_regex": {"regex": f"{pattern}(/versions/1)?(/ready|/config|/stats)?"}}
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    described = _split(route, about | {"headers": [get]}, "http", asks=True)
    described["typed_per_filter_config"]["envoy.filters.http.lua"] = typed(
        "envoy.extensions.filters.http.lua.v3.LuaPerRoute",
        source_code={"inline_string": lua_text("about", ENDPOINT=route.name)},
    )
    yield described


def _grpc_routes(route: Route) -> Iterator[Message]:
    infer = {"path": f"{SERVICE}/ModelInfer"}
    if route.looks_up:
        yield _split(route, infer | {"headers": [_BY_KEY]}, "entity.grpc")
    yield _split(route, infer, "grpc")
    about = {"safe_regex": {"regex": f"{SERVICE}/Model(Ready|Metadata|Config|Statistics)"}}
    yield _split(route, about, "grpc", asks=True)


def _split(route: Route, match: Message, kind: str, *, asks: bool = False) -> Message:
    """Requests shared by weight, the same `themisto-key` always to the same release; copies to the shadow."""
    action: Message = {
        "weighted_clusters": {
            "clusters": [_share(t, kind) for t in route.releases if t.weight_pct],
            "use_hash_policy": True,
        },
        "hash_policy": [{"header": {"header_name": "themisto-key"}}],
        "timeout": f"{DEADLINE_S}s",
        "max_stream_duration": {
            "max_stream_duration": f"{DEADLINE_S}s",
            "grpc_timeout_header_max": f"{DEADLINE_S}s",
        },
        "retry_policy": _retries(route),
    }
    shadows = [t for t in route.releases if t.shadow]
    if shadows and not asks:
        action["request_mirror_policies"] = [
            {
                "cluster": f"{t.release}.{kind}.shadow",
                "disable_shadow_host_suffix_append": True,
                "request_headers_mutations": [
                    {
                        "append": {
                            "header": {"key": "x-caller", "value": CALLER},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    }
                ],
            }
            for t in shadows
        ]
    rendered: Message = {
        "match": match,
        "route": action,
        "typed_per_filter_config": {"rbac": allow_callers(route.group, route.name)},
        "response_headers_to_remove": ["x-absent", "x-next"],
    }
    if not kind.startswith("entity"):
        # Compressed answers could not be logged, and cost more than they save on this machine's loopback.
        rendered["request_headers_to_remove"] = ["authorization", "x-endpoint", "accept-encoding"]
        if route.looks_up and not asks:
            rendered["metadata"] = _lua_metadata(route)
    if route.rate_per_s is not None and not asks:
        known = rendered.setdefault("metadata", {"filter_metadata": {}})["filter_metadata"]
        known[RATED] = {"endpoint": route.name}
    return rendered


def _retries(route: Route) -> Message:
    """Some five seconds in all: what Triton's restart takes, so that a caller who can wait loses nothing."""
    policy: Message = {
        "retry_on": "connect-failure,refused-stream,reset,retriable-headers",
        "retriable_headers": [{"name": "x-absent", "present_match": True}],
        "num_retries": 16,
        "retry_back_off": {"base_interval": "0.02s", "max_interval": "0.8s"},
    }
    if not any(t.falls_back for t in route.releases):
        return policy
    policy["retriable_headers"].append({"name": "x-next", "string_match": {"safe_regex": {"regex": _FAILED}}})
    policy["retry_back_off"]["base_interval"] = "0.002s"
    policy["retry_priority"] = {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": typed(_PRIORITIES, update_frequency=1),
    }
    patience = [t.fallback_after_ms for t in route.releases if t.fallback_after_ms]
    return policy | ({"per_try_timeout": f"{max(patience) / 1000:g}s"} if patience else {})


def _share(target: Target, kind: str) -> Message:
    header = {"key": "x-release", "value": target.title}
    return {
        "name": f"{target.release}.{kind}",
        "weight": target.weight_pct,
        # What answered names itself where it may be another.
        "response_headers_to_add": [
            {"header": header, "append_action": "ADD_IF_ABSENT" if target.falls_back else "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
    }


def _lua_metadata(route: Route) -> Message:
    return {"filter_metadata": {"envoy.filters.http.lua": {"features": dict.fromkeys(route.feature_names, True)}}}


def _feature_reads() -> Iterator[Message]:
    """The read API. Neither requests nor answers are kept: features may be somebody's."""
    longest = f"{DEADLINE_S}s"
    stream = {"max_stream_duration": longest, "grpc_timeout_header_max": longest}
    for match, cluster in (({"prefix": READ_PATH}, "features"), ({"path": READ_METHOD}, "features.grpc")):
        yield {
            "match": match,
            "route": {"cluster": cluster, "timeout": longest, "max_stream_duration": stream},
            "typed_per_filter_config": {
                "rbac": allow_readers(),
                "envoy.filters.http.lua": typed("envoy.extensions.filters.http.lua.v3.LuaPerRoute", disabled=True),
            },
        }


def _nothing() -> Message:
    """Whatever else is asked for: known callers hear that it is not there."""
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": "no such endpoint"}},
        "typed_per_filter_config": {"rbac": allow_anyone()},
    }
