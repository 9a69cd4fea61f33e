"""Istio: a VirtualService that shares an endpoint's requests between its releases, and who may send them.

A key is not kept on one release: weights are drawn for each request, and `consistentHash` only
chooses the pod within the release that was drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from themisto_hub.cluster.around import ports
from themisto_hub.cluster.istio_messages import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Condition,
    Destination,
    DestinationRule,
    DestinationRuleSpec,
    From,
    HeaderChange,
    Headers,
    HttpRoute,
    JwtRule,
    Metadata,
    Mirror,
    RequestAuthentication,
    RequestAuthenticationSpec,
    Rule,
    Selector,
    Share,
    Source,
    Subset,
    VirtualService,
    VirtualServiceSpec,
)
from themisto_hub.cluster.labels import endpoint_labels, provenance, release_labels
from themisto_hub.cluster.manifest import plain
from themisto_hub.cluster.names import name
from themisto_hub.cluster.plan import Placed, Plan
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.gateway.routes import Issuer

__all__ = ["objects"]


def objects(plan: Plan, settings: ClusterSettings, issuers: Sequence[Issuer]) -> list[dict[str, Any]]:
    """The endpoint's address, its traffic and its callers. Each release has a Triton of its own.

    issuers: whose tokens let a caller in; none: nobody passes.
    """
    messages = (
        _virtual_service(plan, settings),
        _destination_rule(plan, settings),
        *_authentication(plan, settings, issuers),
        _authorization(plan, settings, issuers),
    )
    return [
        plain(_service(plan, settings)),
        *(m.model_dump(mode="json", by_alias=True, exclude_none=True) for m in messages),
    ]


def _service(plan: Plan, settings: ClusterSettings) -> Any:
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1Service(
        api_version="v1",
        kind="Service",
        metadata=k8s.V1ObjectMeta(
            name=_name(plan), namespace=settings.namespace, labels=endpoint_labels(plan.endpoint)
        ),
        spec=k8s.V1ServiceSpec(type="ClusterIP", selector=_pods(plan), ports=ports()),
    )


def _virtual_service(plan: Plan, settings: ClusterSettings) -> VirtualService:
    host = _host(plan, settings)
    hosts = [host] + ([f"{name(plan.endpoint)}.{settings.istio_host}"] if settings.istio_host else [])
    gateways = ("mesh", *settings.istio_gateways) if settings.istio_gateways else None
    shadow = plan.shadow
    route = HttpRoute(
        name="infer",
        route=tuple(_share(p, host) for p in plan.placed if p.weight_pct),
        mirrors=(Mirror(destination=Destination(host=host, subset=_subset(shadow))),) if shadow else None,
    )
    return VirtualService(
        metadata=_metadata(plan, settings, told=provenance(plan.serving)),
        spec=VirtualServiceSpec(hosts=tuple(hosts), gateways=gateways, http=(route,)),
    )


def _share(placed: Placed, host: str) -> Share:
    return Share(
        destination=Destination(host=host, subset=_subset(placed)),
        weight=placed.weight_pct,
        headers=Headers(response=HeaderChange(set={"x-release": str(placed.release)})),
    )


def _destination_rule(plan: Plan, settings: ClusterSettings) -> DestinationRule:
    subsets = tuple(Subset(name=_subset(p), labels=release_labels(p.release)) for p in plan.placed)
    spec = DestinationRuleSpec(host=_host(plan, settings), subsets=subsets)
    return DestinationRule(metadata=_metadata(plan, settings), spec=spec)


def _authentication(
    plan: Plan, settings: ClusterSettings, issuers: Sequence[Issuer]
) -> Iterator[RequestAuthentication]:
    rules = tuple(
        JwtRule(issuer=i.issuer, audiences=(i.audience,), jwks=json.dumps(dict(i.jwks), sort_keys=True))
        for i in issuers
    )
    if rules:
        spec = RequestAuthenticationSpec(selector=Selector(match_labels=_pods(plan)), jwt_rules=rules)
        yield RequestAuthentication(metadata=_metadata(plan, settings), spec=spec)


def _authorization(plan: Plan, settings: ClusterSettings, issuers: Sequence[Issuer]) -> AuthorizationPolicy:
    """Members of the group with the scope `infer`, and machines whose token lists the endpoint, as at the gateway.

    Without a rule, nobody passes.
    """
    known = (From(source=Source(request_principals=tuple(f"{issuer.issuer}/*" for issuer in issuers))),)
    person = (
        Condition(key="request.auth.claims[groups]", values=(plan.group,)),
        Condition(key="request.auth.claims[scopes]", values=("infer",)),
    )
    machine = (Condition(key="request.auth.claims[endpoints]", values=(plan.endpoint,)),)
    rules = tuple(Rule(from_=known, when=when) for when in (person, machine)) if issuers else ()
    spec = AuthorizationPolicySpec(selector=Selector(match_labels=_pods(plan)), rules=rules)
    return AuthorizationPolicy(metadata=_metadata(plan, settings), spec=spec)


def _metadata(plan: Plan, settings: ClusterSettings, told: Mapping[str, str] | None = None) -> Metadata:
    return Metadata(
        name=_name(plan), namespace=settings.namespace, labels=endpoint_labels(plan.endpoint), annotations=told
    )


def _name(plan: Plan) -> str:
    return name("endpoint", plan.endpoint)


def _host(plan: Plan, settings: ClusterSettings) -> str:
    return f"{_name(plan)}.{settings.namespace}.svc.cluster.local"


def _subset(placed: Placed) -> str:
    return f"release-{placed.release.number}"


def _pods(plan: Plan) -> dict[str, str]:
    """The pods of all releases of the endpoint."""
    labels = endpoint_labels(plan.endpoint)
    return {key: labels[key] for key in ("app.kubernetes.io/name", "themisto.dev/endpoint")}
