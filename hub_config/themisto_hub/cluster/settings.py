"""Settings of the cluster: images, where models are fetched from, who may reach a Triton, how far it scales."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from themisto.errors import Invalid
from themisto.profiles import ProfileName
from themisto.span_settings import Collector

__all__ = ["ClusterSettings", "cluster_settings"]

Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9_./:@-]{0,254}$")]
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,45}[a-z0-9])?$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-f.:]{2,39}/[0-9]{1,3}$")]
Store = Annotated[str, StringConstraints(pattern=r"^(https?|s3)://[^\s\"'\\\x00-\x1f]{1,500}[^\s\"'\\\x00-\x1f/]$")]
IstioGateway = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,63}/[a-z0-9.-]{1,63}$")]


class ClusterSettings(BaseSettings):
    """What rendering must know of the cluster; `THEMISTO_CLUSTER_…`, lists as JSON."""

    model_config = SettingsConfigDict(env_prefix="THEMISTO_CLUSTER_", frozen=True, extra="ignore")

    namespace: DnsLabel = Field("themisto-serving", description="where the model servers live")
    platform_namespace: DnsLabel = Field("themisto", description="where gateway and control plane live")
    monitoring_namespace: DnsLabel = Field(
        "monitoring", description="where Prometheus lives, which reads the metrics, and the collector of spans"
    )
    collector: Collector | None = Field(
        None, description="where Tritons send spans, OTLP over HTTP; default: OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    triton_image: Image = Field(
        "nvcr.io/nvidia/tritonserver:24.10-py3", description="Triton; by digest (…@sha256:…) for prod"
    )
    code_image: Image | None = Field(
        None, description="Triton with numpy and pandas, for deployed functions; by digest for prod"
    )
    puller_image: Image = Field(
        "themisto/serving:0.1.0", description="themisto[hub,serving], fetches the models; by digest for prod"
    )
    store: Store = Field(
        "http://themisto-control.themisto:8003/services/themisto",
        description="where models are fetched from: the control plane (http, https) or a bucket (s3://bucket/prefix)",
    )
    store_secret: DnsLabel = Field(
        "themisto-artifacts", description="Secret with the fetching container's environment: THEMISTO_KEY_ARTIFACTS"
    )
    store_cidrs: tuple[Cidr, ...] = Field(
        (), description="addresses of a bucket; the only way out that a model server has"
    )
    triton_secret: DnsLabel = Field("themisto-triton", description="Secret whose `model-key` guards Triton's load API")
    default_profile: ProfileName = Field("cpu-small", description="for releases that name none")
    min_replicas: int = Field(2, description="of each Triton", ge=1, le=1000)
    max_replicas: int = Field(10, description="of each Triton", ge=1, le=1000)
    queue_time_us: int = Field(
        2000,
        description="mean wait in Triton's queue, beyond the batching delay asked for, above which it scales",
        ge=1,
    )
    shm_mib: int = Field(256, description="shared memory of a Triton, which its Python backend uses", ge=64, le=65_536)
    transformer: HostName = Field("themisto-transformer.themisto", description="host of the gateway's transformer")
    kserve_service_account: DnsLabel = Field("themisto-kserve", description="may read the bucket, for KServe")
    istio_gateways: tuple[IstioGateway, ...] = Field(
        (), description="namespace/name of Istio's gateways that let callers in; none: only callers in the mesh"
    )
    istio_host: HostName | None = Field(None, description="domain of those gateways: <endpoint>.<domain> is the host")

    @property
    def in_bucket(self) -> bool:
        """Models are fetched from a bucket, not from the control plane."""
        return not self.store.startswith("http")


def cluster_settings(collector: str | None = None) -> ClusterSettings:
    """As the environment has them; `collector` is the workbench's own. Raises Invalid for a wrong one, by its name."""
    try:
        found = ClusterSettings()
        return found if found.collector else found.model_copy(update={"collector": collector})
    except ValidationError as error:
        first = error.errors()[0]
        setting = f"THEMISTO_CLUSTER_{str(first['loc'][0]).upper()}"
        raise Invalid(f"The setting {setting} cannot be {first['input']!r}: {first['msg']}.", "Correct it.") from None
    except SettingsError as error:
        raise Invalid(f"The cluster's settings cannot be read: {error}.", 'Lists are JSON: ["a", "b"].') from None
