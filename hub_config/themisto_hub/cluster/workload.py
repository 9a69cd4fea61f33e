"""Workload: one Triton as a Deployment that holds no power: fetch the models, verify them, serve them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from themisto.errors import Invalid
from themisto_hub.cluster.container import METRICS, UID, container_security, pinned, scratch, triton
from themisto_hub.cluster.labels import labels, provenance, selector
from themisto_hub.cluster.names import name
from themisto_hub.cluster.servers import Server
from themisto_hub.cluster.settings import ClusterSettings

if TYPE_CHECKING:
    from kubernetes_asyncio.client import models as k8s

__all__ = ["SERVICE_ACCOUNT", "deployment", "models_map", "require_room", "store_port"]

SERVICE_ACCOUNT = "themisto-triton"

_FETCHES = "/etc/themisto/models.json"
_MODELS = "/models"
_ROOM_BYTES = 64 * 2**20
_MAP_BYTES = 1_000_000
"""What a ConfigMap may hold is 1 MiB, names and annotations included."""


def models_map(server: Server, settings: ClusterSettings) -> k8s.V1ConfigMap:
    """What the server's pods fetch. Named by its content and immutable: a rollback of the Deployment finds its own."""
    from kubernetes_asyncio.client import models as k8s

    data = {"models.json": server.fetches.text}
    require_room(data, f"The configurations of {len(server.placed)} releases")
    return k8s.V1ConfigMap(
        api_version="v1",
        kind="ConfigMap",
        metadata=k8s.V1ObjectMeta(
            name=_map_name(server),
            namespace=settings.namespace,
            labels=labels(server),
            annotations=provenance(server.placed),
        ),
        immutable=True,
        data=data,
    )


def require_room(data: Mapping[str, str], what: str) -> None:
    """Raises Invalid for more than a ConfigMap holds."""
    if sum(len(text.encode()) for text in data.values()) > _MAP_BYTES:
        raise Invalid(f"{what} are more than one ConfigMap holds.", "Retire endpoints, or run a second workbench.")


def deployment(server: Server, settings: ClusterSettings, *, mesh: bool = False) -> k8s.V1Deployment:
    """The server's Deployment. How many pods, its HorizontalPodAutoscaler says.

    mesh: its pods get Istio's sidecar. Raises Invalid for an image of prod without a digest, for code
    without an image of its own, and for a profile that no node can have.
    """
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1Deployment(
        api_version="apps/v1",
        kind="Deployment",
        metadata=k8s.V1ObjectMeta(
            name=server.name,
            namespace=settings.namespace,
            labels=labels(server),
            annotations=provenance(server.placed),
        ),
        spec=k8s.V1DeploymentSpec(
            selector=k8s.V1LabelSelector(match_labels=selector(server)),
            # The new pods answer before the old ones go: no release is without a Triton.
            strategy=k8s.V1DeploymentStrategy(
                type="RollingUpdate",
                rolling_update=k8s.V1RollingUpdateDeployment(max_unavailable=0, max_surge=1),
            ),
            min_ready_seconds=5,
            progress_deadline_seconds=900,
            revision_history_limit=5,
            template=k8s.V1PodTemplateSpec(
                metadata=k8s.V1ObjectMeta(
                    labels=labels(server) | ({"sidecar.istio.io/inject": "true"} if mesh else {}),
                    annotations=_pod_annotations(server, settings, mesh=mesh),
                ),
                spec=_pod(server, settings),
            ),
        ),
    )


def _pod_annotations(server: Server, settings: ClusterSettings, *, mesh: bool) -> dict[str, str]:
    found = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS),
        "themisto.dev/models-sha256": server.fetches.sha256,
    }
    if mesh:
        # The models are fetched before the sidecar runs: what goes to the store must not wait for it.
        found["traffic.sidecar.istio.io/excludeOutboundPorts"] = str(store_port(settings))
        found["traffic.sidecar.istio.io/excludeInboundPorts"] = str(METRICS)
    return found


def _pod(server: Server, settings: ClusterSettings) -> k8s.V1PodSpec:
    from kubernetes_asyncio.client import models as k8s

    room = 2 * server.fetches.size_bytes + _ROOM_BYTES
    return k8s.V1PodSpec(
        service_account_name=SERVICE_ACCOUNT,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=60,
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=UID,
            run_as_group=UID,
            fs_group=UID,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        topology_spread_constraints=[
            k8s.V1TopologySpreadConstraint(
                max_skew=1,
                topology_key=key,
                when_unsatisfiable="ScheduleAnyway",
                label_selector=k8s.V1LabelSelector(match_labels=selector(server)),
                match_label_keys=["pod-template-hash"],
            )
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        init_containers=[_fetching(server, settings)],
        containers=[triton(server, settings, _MODELS)],
        volumes=[
            k8s.V1Volume(name="fetches", config_map=k8s.V1ConfigMapVolumeSource(name=_map_name(server))),
            k8s.V1Volume(name="models", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=str(room))),
            *scratch(settings),
        ],
    )


def _map_name(server: Server) -> str:
    return name(server.name, server.fetches.sha256[:10])


def _fetching(server: Server, settings: ClusterSettings) -> k8s.V1Container:
    """Fetches by SHA-256 and verifies. Only this container sees the store's key, and it ends before any model runs."""
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1Container(
        name="fetch-models",
        image=pinned(settings.puller_image, server, "THEMISTO_CLUSTER_PULLER_IMAGE"),
        command=["python", "-m", "themisto_hub.cluster.pull", _FETCHES, _MODELS],
        env=[k8s.V1EnvVar(name="THEMISTO_PULL_STORE", value=settings.store)],
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=settings.store_secret))],
        security_context=container_security(),
        resources=k8s.V1ResourceRequirements(
            requests={"cpu": "100m", "memory": "512Mi"}, limits={"cpu": "1", "memory": "1Gi"}
        ),
        volume_mounts=[
            k8s.V1VolumeMount(name="fetches", mount_path="/etc/themisto", read_only=True),
            k8s.V1VolumeMount(name="models", mount_path=_MODELS),
            k8s.V1VolumeMount(name="tmp", mount_path="/tmp"),  # noqa: S108 - an empty folder of this pod
        ],
    )


def store_port(settings: ClusterSettings) -> int:
    """Port of the place that models are fetched from."""
    url = urlsplit(settings.store)
    return url.port or (80 if url.scheme == "http" else 443)
