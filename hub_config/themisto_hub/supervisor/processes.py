"""The processes of one workbench: command, who it runs as, what it may know, when it is ready."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass, field, replace
from pathlib import Path

from themisto_hub.settings import Deployment
from themisto_hub.supervisor.keyring import Keyring

__all__ = ["Process", "processes"]

_FIRST_UID = 690_000  # services; people and jobs have a range of their own (spawners)
_EVENTS = "THEMISTO_KEY_EVENTS"
"""Addresses that events are sent to: secrets that the operator gives, and only the control plane learns."""

_KAFKA = "THEMISTO_KEY_KAFKA"
"""How to log in at Kafka: a secret that the operator gives, and only those who read topics learn."""

_UIDS = {
    name: _FIRST_UID + i
    for i, name in enumerate(
        [
            "idp",
            "proxy",
            "tracking",
            "control",
            "gateway",
            "features",
            "triton-dev",
            "triton-prod",
            "streams",
            "feature-streams",
        ],
        start=1,
    )
}


@dataclass(frozen=True)
class Process:
    """One sibling under the supervisor."""

    name: str
    command: list[str]
    ready_url: str | None
    folder: str
    """Folder below the state that it owns; also where it runs."""
    user: str | None = None
    """Name in the table of service uids; None: the supervisor's own user (root: it changes uids itself)."""
    environment: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    """Other services whose group-readable files it may read."""
    after: tuple[str, ...] = ()
    """Processes that must be ready before this one is started."""
    ready_timeout_s: float = 60.0
    isolated: bool = True
    """False: in one trust domain, as the supervisor's own user."""

    @property
    def uid(self) -> int | None:
        return None if self.user is None or not self.isolated else _UIDS[self.user]

    @property
    def gids(self) -> list[int]:
        return [_UIDS[name] for name in self.groups] if self.isolated else []


def processes(settings: Deployment, keys: Keyring, root: Path, node: Path, triton: Path) -> list[Process]:
    """All of them; those that wait for nobody start together.

    `root` is the folder with hub_config/, `node` the Node.js binary, `triton` the model server's environment.
    """
    ports = settings.ports
    python = sys.executable
    idp = root / "hub_config" / "idp"
    loopback = "http://127.0.0.1"
    common = _common(settings, root, node, triton)

    def env(*names: str, **more: str) -> dict[str, str]:
        return common | keys.environment(names) | more

    module = [python, "-m"]
    proxy = str(idp / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy")
    found = [
        Process(
            "idp",
            [str(node), str(idp / "server.mjs")],
            f"{settings.issuer}/.well-known/openid-configuration",
            "idp",
            "idp",
            common
            | {
                "IDP_ISSUER": settings.issuer,
                "IDP_PORT": str(ports.idp),
                "IDP_USERS": str(settings.folder("idp") / "users.yaml"),
                "IDP_STATE": str(settings.folder("idp")),
                "IDP_HUB_REDIRECT": f"{settings.public}/hub/oauth_callback",
                "IDP_HUB_SECRET": keys["oidc_hub"],
                "IDP_HUB_LOGOUT": f"{settings.public}/hub/login",
                "IDP_REVIEW_REDIRECT": f"{settings.review_url}/callback",
                "IDP_REVIEW_SECRET": keys["oidc_review"],
            },
        ),
        Process(
            "proxy",
            [
                str(node),
                proxy,
                "--ip",
                "127.0.0.1",
                "--port",
                str(ports.public),
                "--api-ip",
                "127.0.0.1",
                "--api-port",
                str(ports.proxy_api),
                "--default-target",
                f"{loopback}:{ports.hub}",
                "--error-target",
                f"{loopback}:{ports.hub}/hub/error",
            ],
            None,
            "proxy",
            "proxy",
            common | {"CONFIGPROXY_AUTH_TOKEN": keys["proxy"]},
        ),
        Process(
            "hub",
            [*module, "jupyterhub", "-f", str(root / "hub_config" / "jupyterhub_config.py")],
            f"{settings.public}/hub/health",
            "hub",
            None,
            env("hub_control", "hub_tracking", "hub_culler", "hub_crypt", "proxy", "oidc_hub"),
            after=("idp", "proxy"),
        ),
        Process(
            "triton-dev",
            [*module, "themisto_hub.model_server", "dev"],
            f"{loopback}:{ports.triton['dev'][0]}/v2/health/ready",
            "triton-dev",
            "triton-dev",
            env("triton_dev", "triton_infer_dev"),
        ),
        Process(
            "triton-prod",
            [*module, "themisto_hub.model_server", "prod"],
            f"{loopback}:{ports.triton['prod'][0]}/v2/health/ready",
            "triton-prod",
            "triton-prod",
            env("triton_prod", "triton_infer_prod"),
        ),
        Process(
            "pool",
            [*module, "themisto_hub.model_server", "pool"],
            None,
            "pool-state",
            None,
            # It packs environments: uv's own settings (an index, a cache) are for it alone.
            env("triton_dev", "triton_prod", **{k: v for k, v in os.environ.items() if k.startswith("UV_")}),
        ),
        Process(
            "transformer",
            [*module, "themisto_hub.gateway", "transformer"],
            f"{loopback}:{ports.transformer_http}/healthz",
            "features",
            "features",
            env("features", "defaults", "triton_infer_dev", "triton_infer_prod"),
            groups=("gateway",),  # it asks groups' own Tritons by their sockets, and reads xds
        ),
        Process(
            "envoy",
            [*module, "themisto_hub.gateway", "envoy"],
            f"{loopback}:{ports.envoy_admin}/ready",
            "gateway",
            "gateway",
            common,
        ),
        Process(
            "predictions",
            [*module, "themisto_hub.gateway", "log"],
            None,
            "gateway",
            "gateway",
            env("log_hash", "log_encrypt"),
        ),
        Process(
            "tracking",
            [*module, "themisto_hub.tracking_server"],
            f"{loopback}:{ports.tracking}/services/tracking/health",
            "tracking",
            "tracking",
            env("hub_tracking"),
            ready_timeout_s=120,
        ),
        Process(
            "control",
            [*module, "themisto_hub.control"],
            f"{loopback}:{ports.control}/services/themisto/healthz",
            "control",
            "control",
            env(
                *(
                    "hub_control",
                    "oidc_review",
                    "features",
                    "operator",
                    "session",
                    "artifacts",
                    "streams",
                    "feature_streams",
                ),
                *("triton_dev", "triton_prod", "triton_infer_dev", "triton_infer_prod", "defaults"),
                **{name: os.environ[name] for name in (_EVENTS,) if name in os.environ},
                # It alone reads and writes buckets: rows of views, and models for a cluster.
                **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
            ),
            groups=("gateway",),
        ),
    ]
    if settings.streams:
        found.append(
            Process(
                "streams",
                [*module, "themisto_hub.streams"],
                f"{loopback}:{ports.streams}/healthz",
                "streams",
                "streams",
                env("streams", **{name: os.environ[name] for name in (_KAFKA,) if name in os.environ}),
            )
        )
    if settings.feature_topics:
        found.append(
            Process(
                "feature-streams",
                [*module, "themisto_hub.feature_streams"],
                f"{loopback}:{ports.feature_streams}/healthz",
                "feature-streams",
                "feature-streams",
                env("feature_streams", **{name: os.environ[name] for name in (_KAFKA,) if name in os.environ}),
            )
        )
    return [replace(process, isolated=settings.isolation == "uid") for process in found]


def _common(settings: Deployment, root: Path, node: Path, triton: Path) -> dict[str, str]:
    """What every process may know: addresses and folders, no key."""
    keep = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    scripts = sysconfig.get_path("scripts")
    return {
        **{name: os.environ[name] for name in keep if name in os.environ},
        # Whatever the operator set by environment counts for every process; keys come one by one.
        **{k: v for k, v in os.environ.items() if k.startswith("THEMISTO_") and not k.startswith("THEMISTO_KEY_")},
        "PATH": os.pathsep.join(
            [scripts, str(node.parent), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **settings.span_environment,
        "THEMISTO_STATE": str(settings.state.absolute()),
        "THEMISTO_PORT": str(settings.port),
        "THEMISTO_PROFILES_DIR": str(settings.profiles_dir.absolute()),
        "THEMISTO_DEMO": str(settings.demo).lower(),
        "THEMISTO_ISOLATION": settings.isolation,
        "THEMISTO_TRITON": str(triton),
        "THEMISTO_ROOT": str(root),
    }
