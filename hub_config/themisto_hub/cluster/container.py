"""Container: a Triton as it runs in a pod, whose repository is there when it starts; what it may do and use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from themisto.errors import Invalid
from themisto.profiles import Profile
from themisto.span_settings import traces_url
from themisto_hub.cluster.servers import Server
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.model_server.server import KEY_HEADER, trace_flags
from themisto_hub.profiles import gpu_resources

if TYPE_CHECKING:
    from kubernetes_asyncio.client import models as k8s

__all__ = ["GRPC", "HTTP", "METRICS", "UID", "container_security", "flags", "pinned", "resources", "scratch", "triton"]

HTTP, GRPC, METRICS = 8000, 8001, 8002
UID = 1000
"""`triton-server` of Triton's image."""

_MIN_BYTES, _MAX_BYTES = 2**20, 2**50
_MAX_CPU = 10_000


def triton(
    server: Server, settings: ClusterSettings, models: str, *, http: int = HTTP, grpc: int = GRPC
) -> k8s.V1Container:
    """The Triton itself, on a repository that is there when it starts."""
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1Container(
        name="triton",
        image=_image(server, settings),
        args=[*flags(models, http=http, grpc=grpc), *trace_flags(traces_url(settings.collector), server.name)],
        env=[
            k8s.V1EnvVar(
                name="MODEL_KEY",
                value_from=k8s.V1EnvVarSource(
                    secret_key_ref=k8s.V1SecretKeySelector(name=settings.triton_secret, key="model-key")
                ),
            )
        ],
        ports=[
            k8s.V1ContainerPort(name="http", container_port=http),
            k8s.V1ContainerPort(name="grpc", container_port=grpc),
            k8s.V1ContainerPort(name="metrics", container_port=METRICS),
        ],
        # Ready is: every model is loaded. A pod whose model does not load never takes the place of one that answers.
        startup_probe=_probe("ready", http, period_s=2, failures=300),
        readiness_probe=_probe("ready", http, period_s=5, failures=2),
        liveness_probe=_probe("live", http, period_s=10, failures=3),
        # Time for everybody who routes to hear that this pod goes, before it does: names are looked up every 5 s.
        lifecycle=k8s.V1Lifecycle(pre_stop=k8s.V1LifecycleHandler(sleep=k8s.V1SleepAction(seconds=15))),
        security_context=container_security(),
        resources=resources(server.profile),
        volume_mounts=[
            k8s.V1VolumeMount(name="models", mount_path=models, read_only=True),
            k8s.V1VolumeMount(name="tmp", mount_path="/tmp"),  # noqa: S108 - an empty folder of this pod
            k8s.V1VolumeMount(name="shm", mount_path="/dev/shm"),  # noqa: S108 - where Triton's Python backend works
        ],
    )


def flags(models: str, *, http: int, grpc: int) -> list[str]:
    """Models by what lies in the folder and by the guarded load API; nothing guessed, nothing half ready."""
    guarded = f"model-repository,shared-memory,trace,logging:{KEY_HEADER}=$(MODEL_KEY)"
    return [
        "tritonserver",
        f"--model-repository={models}",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=false",
        "--exit-timeout-secs=30",
        f"--http-port={http}",
        f"--http-restricted-api={guarded}",
        f"--grpc-port={grpc}",
        f"--grpc-restricted-protocol={guarded}",
        f"--metrics-port={METRICS}",
        "--log-info=false",
    ]


def scratch(settings: ClusterSettings) -> list[k8s.V1Volume]:
    """What a Triton may write to: nothing that stays."""
    from kubernetes_asyncio.client import models as k8s

    shm = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=f"{settings.shm_mib}Mi")
    return [
        k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="1Gi")),
        k8s.V1Volume(name="shm", empty_dir=shm),
    ]


def container_security() -> k8s.V1SecurityContext:
    """No root, no capability, nothing to write to but the volumes."""
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1SecurityContext(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        run_as_non_root=True,
        run_as_user=UID,
        capabilities=k8s.V1Capabilities(drop=["ALL"]),
        seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
    )


def resources(profile: Profile) -> k8s.V1ResourceRequirements:
    """The profile's shape, asked for whole: a Triton that shares its cores has no p99. Raises Invalid."""
    from kubernetes_asyncio.client import models as k8s

    if not (profile.cpu <= _MAX_CPU and _MIN_BYTES <= profile.memory_gib * 2**30 <= _MAX_BYTES):
        raise Invalid(
            f"No node is of the shape of '{profile.name}': {profile.shape}.",
            "Correct the profile: at least 1 MiB of memory, at most 10,000 cores.",
        )
    asked = {
        "cpu": f"{max(1, round(profile.cpu * 1000))}m",
        "memory": str(profile.memory_bytes),
        **gpu_resources(profile.gpu),
    }
    return k8s.V1ResourceRequirements(requests=asked, limits=dict(asked))


def _probe(what: Literal["ready", "live"], port: int, *, period_s: int, failures: int) -> k8s.V1Probe:
    from kubernetes_asyncio.client import models as k8s

    return k8s.V1Probe(
        http_get=k8s.V1HTTPGetAction(path=f"/v2/health/{what}", port=port),
        period_seconds=period_s,
        timeout_seconds=2,
        failure_threshold=failures,
    )


def _image(server: Server, settings: ClusterSettings) -> str:
    if server.group is None:
        return pinned(settings.triton_image, server, "THEMISTO_CLUSTER_TRITON_IMAGE")
    if settings.code_image is None:
        raise Invalid(
            f"{server.placed[0].release} is code, and there is no image that runs it.",
            "Set THEMISTO_CLUSTER_CODE_IMAGE: Triton with numpy and pandas.",
        )
    return pinned(settings.code_image, server, "THEMISTO_CLUSTER_CODE_IMAGE")


def pinned(image: str, server: Server, setting: str) -> str:
    """The image. Raises Invalid for one of prod that is not named by its digest."""
    digest = image.rpartition("@sha256:")[2]
    if server.tier == "prod" and not ("@" in image and len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
        raise Invalid(f"prod runs no image that can change: {image} has no digest.", f"Pin it, {setting}=…@sha256:…")
    return image
