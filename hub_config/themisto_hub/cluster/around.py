"""Around: what stands around a Triton's Deployment: its account, address, walls, disruption budget and scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from themisto.errors import Invalid
from themisto_hub.cluster.container import GRPC, HTTP, METRICS
from themisto_hub.cluster.labels import MANAGED, labels, selector
from themisto_hub.cluster.servers import Server
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.cluster.workload import SERVICE_ACCOUNT, store_port

if TYPE_CHECKING:
    from kubernetes_asyncio.client import models as k8s

__all__ = ["QUEUE_METRIC", "autoscaler", "disruption_budget", "network_policy", "ports", "service", "service_account"]

QUEUE_METRIC = "themisto_triton_queue_us"
"""Mean microseconds in a pod's queues, as the Prometheus adapter gives it (docs/cluster-serving.md)."""

_NAMESPACE = "kubernetes.io/metadata.name"
_ISTIO = "istio-system"
_ISTIOD = 15012


def service_account(settings: ClusterSettings) -> k8s.V1ServiceAccount:
    """An account without any right, whose token no pod is given."""
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1ServiceAccount(
        api_version="v1",
        kind="ServiceAccount",
        metadata=k8s.V1ObjectMeta(name=SERVICE_ACCOUNT, namespace=settings.namespace, labels=dict(MANAGED)),
        automount_service_account_token=False,
    )


def service(server: Server, settings: ClusterSettings) -> k8s.V1Service:
    """Where the server answers, under its own name, which stands for all its pods.

    Headless: a gRPC caller keeps one connection, and behind one address that is one pod for ever.
    The gateway asks for all of them and shares its requests out.
    """
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1Service(
        api_version="v1",
        kind="Service",
        metadata=k8s.V1ObjectMeta(name=server.name, namespace=settings.namespace, labels=labels(server)),
        spec=k8s.V1ServiceSpec(type="ClusterIP", cluster_ip="None", selector=selector(server), ports=ports()),
    )


def ports() -> list[k8s.V1ServicePort]:
    """HTTP and gRPC, named as a mesh reads them; metrics are scraped from the pods."""
    from kubernetes_asyncio.client import models as k8s

    return [
        k8s.V1ServicePort(name="http", port=HTTP, target_port="http", app_protocol="http"),
        k8s.V1ServicePort(name="grpc", port=GRPC, target_port="grpc", app_protocol="grpc"),
    ]


def disruption_budget(server: Server, settings: ClusterSettings) -> k8s.V1PodDisruptionBudget:
    """A drain takes one pod at a time, however many the autoscaler has made; a single one is not held."""
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1PodDisruptionBudget(
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        metadata=k8s.V1ObjectMeta(name=server.name, namespace=settings.namespace, labels=labels(server)),
        spec=k8s.V1PodDisruptionBudgetSpec(
            max_unavailable=1,
            # A pod that is not ready serves nobody: it must not keep a node from being drained.
            unhealthy_pod_eviction_policy="AlwaysAllow",
            selector=k8s.V1LabelSelector(match_labels=selector(server)),
        ),
    )


def autoscaler(server: Server, settings: ClusterSettings) -> k8s.V2HorizontalPodAutoscaler:
    """More pods when requests wait in Triton's queue longer than its batching asks for, or cores are busy.

    A built-in HorizontalPodAutoscaler on a metric of the pods, not a KEDA ScaledObject: KEDA would
    make the same object, by one operator more. Where the metric is missing, the second one scales.
    Raises Invalid where the least is more than the most.
    """
    from kubernetes_asyncio.client import models as k8s

    if settings.min_replicas > settings.max_replicas:
        raise Invalid(
            f"A Triton has at least {settings.min_replicas} pods and at most {settings.max_replicas}.",
            "Correct THEMISTO_CLUSTER_MIN_REPLICAS or THEMISTO_CLUSTER_MAX_REPLICAS.",
        )
    batching = max(placed.release.serving.queue_delay_us or 0 for placed in server.placed)
    return k8s.V2HorizontalPodAutoscaler(
        api_version="autoscaling/v2",
        kind="HorizontalPodAutoscaler",
        metadata=k8s.V1ObjectMeta(name=server.name, namespace=settings.namespace, labels=labels(server)),
        spec=k8s.V2HorizontalPodAutoscalerSpec(
            scale_target_ref=k8s.V2CrossVersionObjectReference(
                api_version="apps/v1", kind="Deployment", name=server.name
            ),
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            metrics=[
                k8s.V2MetricSpec(
                    type="Pods",
                    pods=k8s.V2PodsMetricSource(
                        metric=k8s.V2MetricIdentifier(name=QUEUE_METRIC),
                        target=k8s.V2MetricTarget(
                            type="AverageValue", average_value=str(batching + settings.queue_time_us)
                        ),
                    ),
                ),
                k8s.V2MetricSpec(
                    type="Resource",
                    resource=k8s.V2ResourceMetricSource(
                        name="cpu", target=k8s.V2MetricTarget(type="Utilization", average_utilization=80)
                    ),
                ),
            ],
            behavior=k8s.V2HorizontalPodAutoscalerBehavior(
                scale_up=k8s.V2HPAScalingRules(
                    stabilization_window_seconds=0,
                    policies=[k8s.V2HPAScalingPolicy(type="Percent", value=100, period_seconds=30)],
                ),
                scale_down=k8s.V2HPAScalingRules(
                    stabilization_window_seconds=300,
                    policies=[k8s.V2HPAScalingPolicy(type="Pods", value=1, period_seconds=60)],
                ),
            ),
        ),
    )


def network_policy(server: Server, settings: ClusterSettings, *, mesh: bool = False) -> k8s.V1NetworkPolicy:
    """In: the gateway, the control plane, Prometheus (mesh: whom Istio lets in). Out: names, the models' store, spans.

    Raises Invalid for a bucket whose addresses are not given.
    """
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1NetworkPolicy(
        api_version="networking.k8s.io/v1",
        kind="NetworkPolicy",
        metadata=k8s.V1ObjectMeta(name=server.name, namespace=settings.namespace, labels=labels(server)),
        spec=k8s.V1NetworkPolicySpec(
            pod_selector=k8s.V1LabelSelector(match_labels=selector(server)),
            policy_types=["Ingress", "Egress"],
            ingress=[
                # In a mesh the sidecar knows the callers, each by its certificate: AuthorizationPolicy sorts them.
                k8s.V1NetworkPolicyIngressRule(_from=None if mesh else _platform(settings), ports=_tcp(HTTP, GRPC)),
                k8s.V1NetworkPolicyIngressRule(_from=[_peer(settings.monitoring_namespace)], ports=_tcp(METRICS)),
            ],
            egress=[
                k8s.V1NetworkPolicyEgressRule(to=[_peer("kube-system", {"k8s-app": "kube-dns"})], ports=_dns()),
                k8s.V1NetworkPolicyEgressRule(to=_store(settings), ports=_tcp(store_port(settings))),
                *_collector(settings),
                *([k8s.V1NetworkPolicyEgressRule(to=[_peer(_ISTIO)], ports=_tcp(_ISTIOD))] if mesh else []),
            ],
        ),
    )


def _platform(settings: ClusterSettings) -> list[k8s.V1NetworkPolicyPeer]:
    names = ("themisto-control", "themisto-gateway", "themisto-transformer")
    return [_peer(settings.platform_namespace, {"app.kubernetes.io/name": name}) for name in names]


def _peer(namespace: str, pods: dict[str, str] | None = None) -> k8s.V1NetworkPolicyPeer:
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1NetworkPolicyPeer(
        namespace_selector=k8s.V1LabelSelector(match_labels={_NAMESPACE: namespace}),
        pod_selector=k8s.V1LabelSelector(match_labels=pods) if pods else None,
    )


def _store(settings: ClusterSettings) -> list[k8s.V1NetworkPolicyPeer]:
    from kubernetes_asyncio.client import models as k8s

    if settings.store_cidrs:
        return [k8s.V1NetworkPolicyPeer(ip_block=k8s.V1IPBlock(cidr=cidr)) for cidr in settings.store_cidrs]
    if settings.in_bucket:
        raise Invalid(
            f"Model servers have no way out but to {settings.store}, and its addresses are not known.",
            'Set THEMISTO_CLUSTER_STORE_CIDRS, e.g. ["10.0.8.0/24"]: those of the bucket\'s endpoint.',
        )
    return [_peer(settings.platform_namespace, {"app.kubernetes.io/name": "themisto-control"})]


def _collector(settings: ClusterSettings) -> list[k8s.V1NetworkPolicyEgressRule]:
    from kubernetes_asyncio.client import models as k8s

    if settings.collector is None:
        return []
    url = urlsplit(settings.collector)
    port = url.port or (443 if url.scheme == "https" else 80)
    return [k8s.V1NetworkPolicyEgressRule(to=[_peer(settings.monitoring_namespace)], ports=_tcp(port))]


def _tcp(*numbers: int) -> list[k8s.V1NetworkPolicyPort]:
    from kubernetes_asyncio.client import models as k8s

    return [k8s.V1NetworkPolicyPort(protocol="TCP", port=number) for number in numbers]


def _dns() -> list[k8s.V1NetworkPolicyPort]:
    from kubernetes_asyncio.client import models as k8s

    return [k8s.V1NetworkPolicyPort(protocol=protocol, port=53) for protocol in ("UDP", "TCP")]
