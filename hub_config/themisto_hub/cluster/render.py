"""Render: an endpoint as the objects of one target. Pure: the same plan renders to the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from themisto.profiles import Profile
from themisto.serving.models import EndpointName
from themisto.types import Model, Sha256
from themisto_hub.cluster import istio, kserve
from themisto_hub.cluster.around import autoscaler, disruption_budget, network_policy, service, service_account
from themisto_hub.cluster.capabilities import Feature, Target, check
from themisto_hub.cluster.gateway import routes_maps
from themisto_hub.cluster.manifest import dump, plain
from themisto_hub.cluster.plan import Plan, require_approval
from themisto_hub.cluster.servers import Server, servers
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.cluster.workload import deployment, models_map
from themisto_hub.gateway.routes import RouteTable

__all__ = ["Rendering", "render"]


class Rendering(Model):
    """The objects as YAML, in the two steps in which they are applied, and what they are of.

    servers: what must be ready before traffic moves.
    traffic: what moves it.
    """

    endpoint: EndpointName
    target: Target
    releases: tuple[str, ...]
    servers: str
    traffic: str

    @property
    def text(self) -> str:
        """Both, in order."""
        return self.servers + self.traffic

    @property
    def sha256(self) -> Sha256:
        """Of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def render(
    plan: Plan,
    target: Target,
    profiles: Mapping[str, Profile],
    settings: ClusterSettings,
    *,
    table: RouteTable,
    neighbours: Sequence[Plan] = (),
    without: Collection[Feature] = (),
) -> Rendering:
    """The objects of the endpoint on the target.

    table: the gateway's, of the whole workbench, with addresses of the cluster; its issuers sign
        callers' tokens on Istio too.
    neighbours: all other endpoints. On `kubernetes` they share Tritons and the gateway's routes, so that
        what is rendered is of them all.
    without: what the cluster goes without (`capabilities.WAIVABLE`).
    Raises Refused for a prod release that nobody approved, Invalid for what the target cannot honour
    or no cluster can run, NotFound for a profile that is not there.
    """
    require_approval(plan)
    check(plan, target, without=without)
    steps: tuple[Iterable[Any], Iterable[Any]]
    if target == "kubernetes":
        for neighbour in neighbours:
            require_approval(neighbour)
        held = servers([plan, *neighbours], profiles, settings, own=False)
        steps = _tritons(held, settings, mesh=False), routes_maps(table, settings)
    elif target == "istio":
        held = servers([plan], profiles, settings, own=True)
        steps = _tritons(held, settings, mesh=True), istio.objects(plan, settings, table.all_issuers)
    else:
        runtime, inference_service = kserve.objects(plan, profiles, settings)
        steps = [runtime], [inference_service]
    before, after = (dump(plain(one) for one in step) for step in steps)
    return Rendering(
        endpoint=plan.endpoint,
        target=target,
        releases=tuple(str(placed.release) for placed in plan.placed),
        servers=before,
        traffic=after,
    )


def _tritons(found: Iterable[Server], settings: ClusterSettings, *, mesh: bool) -> Iterator[Any]:
    yield service_account(settings)
    for server in found:
        yield models_map(server, settings)
        yield deployment(server, settings, mesh=mesh)
        yield disruption_budget(server, settings)
        yield autoscaler(server, settings)
        yield network_policy(server, settings, mesh=mesh)
        if not mesh:
            yield service(server, settings)
