"""KServe: one InferenceService an endpoint, with the Triton runtime that it runs on.

https://kserve.github.io/website: `serving.kserve.io/v1beta1` InferenceService, `v1alpha1` ServingRuntime.
KServe's own memory is the revision before: `canaryTrafficPercent` splits between what was applied
last and what had all traffic before that, which must have been applied first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from themisto.errors import Invalid
from themisto.profiles import Profile
from themisto_hub.cluster.container import resources, scratch, triton
from themisto_hub.cluster.labels import MANAGED, endpoint_labels, provenance
from themisto_hub.cluster.manifest import plain
from themisto_hub.cluster.names import MAX, name
from themisto_hub.cluster.plan import Placed, Plan
from themisto_hub.cluster.servers import Server, servers
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.cluster.store import repository_path
from themisto_hub.gateway.render import DEADLINE_S

__all__ = ["objects"]

_HTTP, _GRPC = 8080, 9000
"""Where KServe's agents look for a Triton."""
_MODELS = "/mnt/models"
_SHORTEST = 20
_IN_FLIGHT = 8
"""Requests in flight a pod, above which Knative makes more."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Metadata(_Message):
    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class ModelFormat(_Message):
    name: Literal["triton"] = "triton"
    version: Literal["2"] = "2"
    auto_select: bool | None = None


class ModelSpec(_Message):
    model_format: ModelFormat = ModelFormat()
    runtime: str
    protocol_version: Literal["v2"] = "v2"
    storage_uri: str
    resources: Mapping[str, Any]


class Predictor(_Message):
    """canary_traffic_percent: of the requests, to this revision; None: all of them."""

    service_account_name: str
    min_replicas: int
    max_replicas: int
    scale_metric: Literal["concurrency"] = "concurrency"
    scale_target: int = _IN_FLIGHT
    timeout: int = DEADLINE_S
    canary_traffic_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    model: ModelSpec


class InferenceServiceSpec(_Message):
    predictor: Predictor


class InferenceService(_Message):
    """One model behind one address; KServe keeps the revision before."""

    api_version: Literal["serving.kserve.io/v1beta1"] = "serving.kserve.io/v1beta1"
    kind: Literal["InferenceService"] = "InferenceService"
    metadata: Metadata
    spec: InferenceServiceSpec


class ServingRuntimeSpec(_Message):
    supported_model_formats: tuple[ModelFormat, ...] = (ModelFormat(auto_select=False),)
    multi_model: bool = False
    protocol_versions: tuple[str, ...] = ("v2", "grpc-v2")
    annotations: Mapping[str, str] = {"prometheus.kserve.io/port": "8002", "prometheus.kserve.io/path": "/metrics"}
    containers: tuple[Mapping[str, Any], ...]
    volumes: tuple[Mapping[str, Any], ...]


class ServingRuntime(_Message):
    """How KServe starts a Triton."""

    api_version: Literal["serving.kserve.io/v1alpha1"] = "serving.kserve.io/v1alpha1"
    kind: Literal["ServingRuntime"] = "ServingRuntime"
    metadata: Metadata
    spec: ServingRuntimeSpec


def objects(
    plan: Plan, profiles: Mapping[str, Profile], settings: ClusterSettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The runtime and the InferenceService of the release that traffic moves to, or else of stable.

    Raises Invalid where models are not in a bucket, or the namespace leaves no room for names.
    """
    if not settings.in_bucket:
        raise Invalid(
            "KServe fetches models from a bucket, not from the control plane.",
            "Set THEMISTO_CLUSTER_STORE=s3://bucket/prefix.",
        )
    latest = plan.candidate or plan.stable
    own = servers([plan], profiles, settings, own=True)
    server = next(one for one in own if one.placed[0] == latest)
    runtime = _runtime(server, settings)
    service = _inference_service(plan, latest, server, runtime.metadata.name, settings)
    return _plain(runtime), _plain(service)


def _plain(message: _Message) -> dict[str, Any]:
    return message.model_dump(mode="json", by_alias=True, exclude_none=True)


def _inference_service(
    plan: Plan, latest: Placed, server: Server, runtime: str, settings: ClusterSettings
) -> InferenceService:
    told = {"serving.kserve.io/deploymentMode": "Serverless"}  # the only mode that splits traffic
    if latest is not plan.stable:
        told["themisto.dev/needs-applied-before"] = str(plan.stable.release)
    return InferenceService(
        metadata=Metadata(
            name=_service_name(plan.endpoint, settings),
            namespace=settings.namespace,
            labels=endpoint_labels(plan.endpoint),
            annotations=provenance([latest]) | told,
        ),
        spec=InferenceServiceSpec(
            predictor=Predictor(
                service_account_name=settings.kserve_service_account,
                min_replicas=settings.min_replicas,
                max_replicas=settings.max_replicas,
                canary_traffic_percent=None if latest is plan.stable else latest.weight_pct,
                model=ModelSpec(
                    runtime=runtime,
                    storage_uri=f"{settings.store}/{repository_path(latest.release.hash)}",
                    resources=plain(resources(server.profile)),
                ),
            )
        ),
    )


def _service_name(endpoint: str, settings: ClusterSettings) -> str:
    """Knative makes one DNS label of it: `<name>-predictor-<namespace>`."""
    limit = MAX - len(f"-predictor-{settings.namespace}")
    if limit < _SHORTEST:
        raise Invalid(
            f"KServe makes one name of the endpoint's and the namespace's, and '{settings.namespace}' leaves no room.",
            "Choose a shorter one: THEMISTO_CLUSTER_NAMESPACE.",
        )
    return name(endpoint, limit=limit)


def _runtime(server: Server, settings: ClusterSettings) -> ServingRuntime:
    """A Triton as in a Deployment of ours; the models' folder is KServe's to fill."""
    container = plain(triton(server, settings, _MODELS, http=_HTTP, grpc=_GRPC))
    container |= {"name": "kserve-container"}
    for theirs in ("lifecycle", "resources", "startupProbe", "livenessProbe", "ports"):
        container.pop(theirs, None)
    container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] != "models"]
    return ServingRuntime(
        metadata=Metadata(
            name=name("triton", server.tier),
            namespace=settings.namespace,
            labels=dict(MANAGED),
            annotations={"themisto.dev/tier": server.tier},
        ),
        spec=ServingRuntimeSpec(containers=(container,), volumes=tuple(plain(volume) for volume in scratch(settings))),
    )
