"""Istio's messages, as far as we write them: `networking.istio.io/v1` and `security.istio.io/v1`.

https://istio.io/latest/docs/reference/config; each field is named as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from themisto_hub.gateway.render import DEADLINE_S

__all__ = ["AuthorizationPolicy", "DestinationRule", "RequestAuthentication", "VirtualService"]

KEY = "themisto-key"
"""Header that keeps a caller's requests together."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Metadata(_Message):
    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str] | None = None


class Destination(_Message):
    host: str
    subset: str


class HeaderChange(_Message):
    set: Mapping[str, str]


class Headers(_Message):
    response: HeaderChange


class Share(_Message):
    """One release's part; who answered is said in a header."""

    destination: Destination
    weight: Annotated[int, Field(ge=0, le=100)]
    headers: Headers


class Percent(_Message):
    value: float = 100.0


class Mirror(_Message):
    destination: Destination
    percentage: Percent = Percent()


class Retries(_Message):
    attempts: int = 16
    retry_on: str = "connect-failure,refused-stream,reset"


class HttpRoute(_Message):
    name: str
    route: Annotated[tuple[Share, ...], Field(min_length=1)]
    mirrors: tuple[Mirror, ...] | None = None
    timeout: str = f"{DEADLINE_S}s"
    retries: Retries = Retries()


class VirtualServiceSpec(_Message):
    hosts: tuple[str, ...]
    gateways: tuple[str, ...] | None = None
    http: tuple[HttpRoute, ...]


class VirtualService(_Message):
    """Which release a request goes to."""

    api_version: Literal["networking.istio.io/v1"] = "networking.istio.io/v1"
    kind: Literal["VirtualService"] = "VirtualService"
    metadata: Metadata
    spec: VirtualServiceSpec


class Tcp(_Message):
    max_connections: int = 64
    connect_timeout: str = "0.5s"


class Http(_Message):
    http1_max_pending_requests: Annotated[int, Field(alias="http1MaxPendingRequests")] = 256
    http2_max_requests: Annotated[int, Field(alias="http2MaxRequests")] = 512
    max_retries: int = 256


class ConnectionPool(_Message):
    tcp: Tcp = Tcp()
    http: Http = Http()


class OutlierDetection(_Message):
    """Only what says "not there" counts: a model's own errors are the request's, not the server's."""

    consecutive_gateway_errors: int = 5
    consecutive5xx_errors: Annotated[int, Field(alias="consecutive5xxErrors")] = 0
    interval: str = "1s"
    base_ejection_time: str = "2s"


class ConsistentHash(_Message):
    http_header_name: str = KEY


class LoadBalancer(_Message):
    consistent_hash: ConsistentHash = ConsistentHash()


class TrafficPolicy(_Message):
    """The gateway's own bounds (`themisto_hub.gateway.render`); a test holds them equal."""

    connection_pool: ConnectionPool = ConnectionPool()
    outlier_detection: OutlierDetection = OutlierDetection()
    load_balancer: LoadBalancer = LoadBalancer()


class Subset(_Message):
    """The pods of one release."""

    name: str
    labels: Mapping[str, str]


class DestinationRuleSpec(_Message):
    host: str
    traffic_policy: TrafficPolicy = TrafficPolicy()
    subsets: tuple[Subset, ...]


class DestinationRule(_Message):
    """The releases as subsets of pods, and the bounds of each."""

    api_version: Literal["networking.istio.io/v1"] = "networking.istio.io/v1"
    kind: Literal["DestinationRule"] = "DestinationRule"
    metadata: Metadata
    spec: DestinationRuleSpec


class Selector(_Message):
    match_labels: Mapping[str, str]


class FromHeader(_Message):
    name: Literal["Authorization"] = "Authorization"
    prefix: Literal["Bearer "] = "Bearer "


class JwtRule(_Message):
    issuer: str
    audiences: tuple[str, ...]
    jwks: str
    from_headers: tuple[FromHeader, ...] = (FromHeader(),)


class RequestAuthenticationSpec(_Message):
    selector: Selector
    jwt_rules: tuple[JwtRule, ...]


class RequestAuthentication(_Message):
    """Whose tokens are taken."""

    api_version: Literal["security.istio.io/v1"] = "security.istio.io/v1"
    kind: Literal["RequestAuthentication"] = "RequestAuthentication"
    metadata: Metadata
    spec: RequestAuthenticationSpec


class Source(_Message):
    request_principals: tuple[str, ...]


class From(_Message):
    source: Source


class Condition(_Message):
    key: str
    values: tuple[str, ...]


class Rule(_Message):
    """All of it must hold."""

    from_: Annotated[tuple[From, ...], Field(alias="from")]
    when: tuple[Condition, ...]


class AuthorizationPolicySpec(_Message):
    selector: Selector
    action: Literal["ALLOW"] = "ALLOW"
    rules: tuple[Rule, ...]


class AuthorizationPolicy(_Message):
    """Who may ask; without a rule, nobody."""

    api_version: Literal["security.istio.io/v1"] = "security.istio.io/v1"
    kind: Literal["AuthorizationPolicy"] = "AuthorizationPolicy"
    metadata: Metadata
    spec: AuthorizationPolicySpec
