"""Settings of the servers: addresses, folders, stores and keys of one workbench, by environment or file.

Every service reads the same `Deployment`; what only one of them may know reaches it as a
`THEMISTO_KEY_…` variable from the supervisor (or a Kubernetes secret), never on a command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from themisto.span_settings import SpanSettings
from themisto.types import Slug
from themisto_hub.streams.models import Stream, check_streams

__all__ = ["SETTINGS_FILE", "Deployment", "Keys", "Ports"]

SETTINGS_FILE = Path("/etc/themisto/themisto.toml")

Tier = Literal["dev", "prod"]
TopicPattern = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,247}[a-zA-Z0-9._*-]?$")]


class Ports:
    """Loopback ports of the embedded services, counted from one base."""

    def __init__(self, base: int) -> None:
        self.public = base  # the proxy: hub, servers, control plane, tracking
        self.hub = base + 1
        self.proxy_api = base + 2
        self.control = base + 3
        self.review = base + 4
        self.tracking = base + 5
        self.gateway_http = base + 6
        self.gateway_grpc = base + 7
        self.envoy_admin = base + 8
        self.transformer_http = base + 9
        self.transformer_grpc = base + 10
        self.idp = base + 11
        self.triton = {"dev": (base + 12, base + 13, base + 14), "prod": (base + 15, base + 16, base + 17)}
        """http, grpc, metrics of each tier's Triton."""
        self.streams = base + 18
        self.feature_streams = base + 19
        self.all = range(base, base + 20)


class Keys(BaseSettings):
    """What one service must keep to itself. A service is given only the keys it needs."""

    model_config = SettingsConfigDict(env_prefix="THEMISTO_KEY_", frozen=True, extra="ignore")

    hub_control: SecretStr | None = Field(None, description="hub API token of the control plane")
    hub_tracking: SecretStr | None = Field(None, description="hub API token of the tracking server")
    hub_culler: SecretStr | None = Field(None, description="hub API token of the idle culler")
    hub_crypt: SecretStr | None = Field(None, description="encrypts auth_state in the hub's database (32 bytes, hex)")
    proxy: SecretStr | None = Field(None, description="the proxy's API token")
    oidc_hub: SecretStr | None = Field(None, description="client secret of the hub at the identity provider")
    oidc_review: SecretStr | None = Field(None, description="client secret of the review page")
    triton_dev: SecretStr | None = Field(None, description="guards the load API of dev's Triton")
    triton_prod: SecretStr | None = Field(None, description="guards the load API of prod's Triton")
    triton_infer_dev: SecretStr | None = Field(None, description="guards the inference API of dev's Triton")
    triton_infer_prod: SecretStr | None = Field(None, description="guards the inference API of prod's Triton")
    defaults: SecretStr | None = Field(None, description="opens releases' default answers to the gateway alone")
    log_hash: SecretStr | None = Field(None, description="hashes personal columns in the prediction log")
    log_encrypt: SecretStr | None = Field(None, description="encrypts personal columns in the prediction log")
    features: SecretStr | None = Field(None, description="lets the control plane's worker write online features")
    artifacts: SecretStr | None = Field(None, description="opens the artifacts to model servers of a cluster")
    operator: SecretStr | None = Field(None, description="`themisto rollback` while the hub is down")
    session: SecretStr | None = Field(None, description="signs the review page's short session")
    streams: SecretStr | None = Field(None, description="lets the streams' process ask for their tokens")
    feature_streams: SecretStr | None = Field(None, description="lets the consumer of topics bring rows of views")


class Deployment(SpanSettings):
    """Where the parts of one workbench are. Defaults give everything embedded on one machine.

    Where spans go is told by OpenTelemetry's own variables (`SpanSettings`), which have no prefix.
    """

    model_config = SettingsConfigDict(env_prefix="THEMISTO_", toml_file=[SETTINGS_FILE])

    state: Path = Field(Path(".themisto"), description="folder of all that must outlive a restart")
    port: int = Field(8000, description="first of twenty consecutive ports", ge=1024, le=65000)
    public_url: str | None = Field(None, description="the address people use; default http://127.0.0.1:<port>")
    profiles_dir: Path = Field(Path("profiles"), description="one YAML file a profile")
    demo: bool = Field(True, description="prod endpoints are for show: allowed without TLS and without isolation")
    database: str | None = Field(None, description="the control plane's; default SQLite under state/control")
    online_store: str | None = Field(None, repr=False, description="sqlite:///… or cassandra://h1,h2/keyspace?dc=…")
    offline_store: str | None = Field(
        None, repr=False, description="file:///… or s3://bucket/prefix?…; default under state/control/offline"
    )
    oidc_issuer: str | None = Field(None, description="default: the embedded provider")
    approver_groups: frozenset[str] = Field(frozenset({"model-risk"}), description="may approve prod rollouts")
    admin_groups: frozenset[str] = Field(frozenset({"platform-admins"}), description="run the platform")
    allowed_groups: frozenset[str] = Field(
        frozenset({"data-science", "model-risk", "platform-admins"}), description="may log in"
    )
    name_grace_days: int = Field(
        90, description="days after its retirement before an admin may give an endpoint's name back", ge=0
    )
    environment_grace_days: int = Field(
        7, description="days that packed packages are kept after the last release that may need them", ge=1
    )
    serving_target: Literal["kubernetes", "kserve", "istio"] = Field(
        "kubernetes", description="whose objects `themisto render` makes, unless told otherwise"
    )
    kafka: str | None = Field(None, description="host:9092,… of the Kafka that streams read and write")
    streams: tuple[Stream, ...] = Field((), description="topics whose requests endpoints answer")
    feature_topics: Mapping[Slug, tuple[TopicPattern, ...]] = Field(
        {}, description="by group the topics that it may read into feature views; payments.* for all that begin so"
    )
    spawner: Literal["local", "kubernetes"] = Field("local", description="where servers run")
    isolation: Literal["uid", "none"] = Field("none", description="own uid, mounts and limits; the supervisor says")

    @model_validator(mode="after")
    def _streams_can_run(self) -> Self:
        check_streams(self.streams)
        if self.streams and not self.kafka:
            msg = "streams need a Kafka: set THEMISTO_KAFKA"
            raise ValueError(msg)
        if self.feature_topics and not self.kafka:
            msg = "topics for feature views need a Kafka: set THEMISTO_KAFKA"
            raise ValueError(msg)
        return self

    @cached_property
    def ports(self) -> Ports:
        return Ports(self.port)

    @property
    def public(self) -> str:
        """The one address people use, without a trailing slash."""
        return (self.public_url or f"http://127.0.0.1:{self.port}").rstrip("/")

    @property
    def control_url(self) -> str:
        """The control plane behind the proxy, as kernels and the Lab extension reach it."""
        return f"{self.public}/services/themisto"

    @property
    def tracking_url(self) -> str:
        """MLflow behind the proxy."""
        return f"{self.public}/services/tracking"

    @property
    def hub_api(self) -> str:
        """The hub's REST API, for services on the same machine."""
        return f"http://127.0.0.1:{self.ports.hub}/hub/api"

    @property
    def review_url(self) -> str:
        """The review page: an origin of its own."""
        return f"http://localhost:{self.ports.review}"

    @property
    def issuer(self) -> str:
        """The identity provider. `localhost`, where the hub is on 127.0.0.1: cookies ignore ports."""
        return (self.oidc_issuer or f"http://localhost:{self.ports.idp}").rstrip("/")

    @property
    def gateway_http(self) -> str:
        return f"http://127.0.0.1:{self.ports.gateway_http}"

    @property
    def gateway_grpc(self) -> str:
        return f"127.0.0.1:{self.ports.gateway_grpc}"

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.folder('control') / 'control.db'}"

    @property
    def online_store_url(self) -> str:
        return self.online_store or f"sqlite:///{self.folder('features') / 'online.db'}"

    def folder(self, service: str) -> Path:
        """The folder that `service` owns below `state` (absolute; made by the supervisor, 0700)."""
        return self.state.absolute() / service

    @property
    def xds(self) -> Path:
        """Envoy's dynamic configuration: written by the control plane, read by Envoy."""
        return self.folder("xds")
