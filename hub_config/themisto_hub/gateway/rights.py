"""Rights: who may pass, as Envoy checks it by itself: tokens by keys in a file, revoked ids, claims a route."""

from __future__ import annotations

import json

from themisto_hub.gateway.messages import SERVICE, Message, typed
from themisto_hub.gateway.routes import Issuer

__all__ = ["allow_anyone", "allow_callers", "allow_readers", "deny_list", "token_check"]

_JWT = "envoy.filters.http.jwt_authn"
_FILTER = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_RBAC = "envoy.extensions.filters.http.rbac.v3.RBAC"
_OPEN: tuple[Message, ...] = (
    {"path": "/v2"},
    {"path": "/v2/health/live"},
    {"path": "/v2/health/ready"},
    {"path": f"{SERVICE}/ServerLive"},
    {"path": f"{SERVICE}/ServerReady"},
    {"path": f"{SERVICE}/ServerMetadata"},
)


def token_check(issuers: tuple[Issuer, ...]) -> Message:
    """A bearer token of one of the issuers, in the Authorization header and nowhere else; health is open."""
    providers = {
        f"issuer-{number}": {
            "issuer": issuer.issuer,
            "audiences": [issuer.audience],
            "require_expiration": True,
            "max_lifetime": "86400s",
            "local_jwks": {"inline_string": json.dumps(dict(issuer.jwks), sort_keys=True)},
            "jwt_cache_config": {"jwt_cache_size": 1000},
            "payload_in_metadata": "jwt",
            "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
            "forward": True,  # the transformer verifies it again; the routes to Triton drop it
        }
        for number, issuer in enumerate(issuers)
        if issuer.jwks.get("keys")
    }
    if not providers:
        return typed(_FILTER)  # no claims, so no route's rights are met
    any_of = [{"provider_name": name} for name in providers]
    requires = {"requires_any": {"requirements": any_of}} if len(any_of) > 1 else any_of[0]
    rules = [*({"match": match} for match in _OPEN), {"match": {"prefix": "/"}, "requires": requires}]
    return typed(_FILTER, providers=providers, rules=rules)


def deny_list(jti: tuple[str, ...]) -> Message:
    """Tokens that were revoked before their end; callers whose name would break a line of the log."""
    unprintable = _matches("sub", {"string_match": {"safe_regex": {"regex": r"(?s).*[\x00-\x1f\x7f].*"}}})
    policies = {"unprintable": _anything_by([unprintable])}
    if jti:
        policies["revoked"] = _anything_by([_claim("jti", j) for j in sorted(set(jti))])
    return typed(_RBAC, rules_stat_prefix="deny_", rules={"action": "DENY", "policies": policies})


def allow_callers(group: str, endpoint: str) -> Message:
    """Members of the group with the scope `infer`; machines whose token lists the endpoint."""
    person = {"and_ids": {"ids": [_claim_has("groups", group), _claim_has("scopes", "infer")]}}
    return _allow("callers", [person, _claim_has("endpoints", endpoint)])


def allow_readers() -> Message:
    """Whoever has the scope `features:read`; whose features they are, the transformer checks."""
    return _allow("readers", [_claim_has("scopes", "features:read")])


def allow_anyone() -> Message:
    """No right is needed beyond a valid token, where the path asks for one."""
    return typed(f"{_RBAC}PerRoute")


def _allow(name: str, principals: list[Message]) -> Message:
    return typed(f"{_RBAC}PerRoute", rbac={"rules": {"action": "ALLOW", "policies": {name: _anything_by(principals)}}})


def _anything_by(principals: list[Message]) -> Message:
    return {"permissions": [{"any": True}], "principals": principals}


def _claim(name: str, exact: str) -> Message:
    return _matches(name, {"string_match": {"exact": exact}})


def _claim_has(name: str, member: str) -> Message:
    return _matches(name, {"list_match": {"one_of": {"string_match": {"exact": member}}}})


def _matches(claim: str, value: Message) -> Message:
    matcher = {"filter": _JWT, "path": [{"key": "jwt"}, {"key": claim}], "value": value}
    return {"sourced_metadata": {"metadata_source": "DYNAMIC", "metadata_matcher": matcher}}
