"""`configure(c)`: makes a JupyterHub a workbench, without overwriting what its configuration already says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from jupyterhub.services.service import Service
from traitlets.config.loader import LazyConfigValue
from traitlets.log import get_logger

from themisto_hub.auth import OIDCAuthenticator, Provider
from themisto_hub.culling import SCOPES as CULLER_SCOPES
from themisto_hub.culling import BusyKernelManager, culler_service
from themisto_hub.roles import CONTROL_SCOPES, CUSTOM_SCOPES, SERVER_SCOPES, TRACKING_SCOPES, group_roles
from themisto_hub.settings import Deployment, Keys

__all__ = ["configure"]

_CULLER_UID = 690_020  # beside the supervisor's uids for services
_REFRESH_AGE_S = 60
_ROUTES_EVERY_S = 5
_TEMPLATES = Path(__file__).parent / "templates"  # with our login: a hub that keeps its own keeps its pages too


def configure(c: Any, settings: Deployment | None = None, keys: Keys | None = None) -> list[str]:
    """Set up logins, spawner, services, roles and culling in the hub's configuration `c`.

    Whatever `c` already sets stays as it is and is named in the log; returns those names.
    Called last in jupyterhub_config.py.
    """
    settings, keys = settings or Deployment(), keys or Keys()
    to = _Careful(c)
    _hub(to, settings)
    _proxy(to, settings, keys)
    _logins(to, settings, keys)
    _spawner(to, settings)
    _services(to, settings, keys)
    to.merge("JupyterHub", "custom_scopes", CUSTOM_SCOPES)
    log = get_logger()
    for name in to.left:
        log.warning("themisto: %s is already set and was left alone", name)
    return to.left


class _Careful:
    """Writes to a traitlets Config, never over what is there."""

    def __init__(self, c: Any) -> None:
        self.c = c
        self.left: list[str] = []

    def has(self, section: str, name: str) -> bool:
        return name in self.c[section]

    def set(self, section: str, **values: Any) -> None:
        for name, value in values.items():
            if self.has(section, name):
                self.left.append(f"{section}.{name}")
            else:
                self.c[section][name] = value

    def merge(self, section: str, name: str, entries: dict[str, Any]) -> None:
        """Add entries to a dict, keeping those whose key is there."""
        current = self.c[section][name] if self.has(section, name) else {}
        if isinstance(current, LazyConfigValue):
            current = current.get_value({})
        self.left += [f"{section}.{name}[{key!r}]" for key in entries if key in current]
        self.c[section][name] = {**entries, **current}

    def add(self, section: str, name: str, entries: list[dict[str, Any]]) -> None:
        """Append named entries to a list, leaving out those whose name is there."""
        current = self.c[section][name] if self.has(section, name) else []
        if isinstance(current, LazyConfigValue):
            current = current.get_value([])
        known = {entry["name"] for entry in current}
        self.left += [f"{section}.{name}[{e['name']!r}]" for e in entries if e["name"] in known]
        self.c[section][name] = [*current, *(e for e in entries if e["name"] not in known)]


def _hub(to: _Careful, settings: Deployment) -> None:
    folder = settings.folder("hub")
    local = settings.spawner == "local"
    to.set(
        "JupyterHub",
        bind_url=f"http://127.0.0.1:{settings.ports.public}",
        hub_bind_url=f"http://127.0.0.1:{settings.ports.hub}" if local else f"http://:{settings.ports.hub}",
        db_url=f"sqlite:///{folder / 'jupyterhub.sqlite'}",
        cookie_secret_file=str(folder / "cookie_secret"),
        allow_named_servers=True,
        # Local servers end with the hub when it is asked to stop; a killed hub finds them again.
        cleanup_servers=local,
        cleanup_proxy=False,
    )


def _proxy(to: _Careful, settings: Deployment, keys: Keys) -> None:
    """The proxy is a sibling process: a restart of the hub interrupts no connection."""
    if keys.proxy is None:
        return
    # It is also how often the hub looks whether a proxy that came back knows its routes; the default is five minutes.
    to.set("JupyterHub", last_activity_interval=_ROUTES_EVERY_S)
    to.set(
        "ConfigurableHTTPProxy",
        should_start=False,
        api_url=f"http://127.0.0.1:{settings.ports.proxy_api}",
        auth_token=keys.proxy.get_secret_value(),
    )


def _logins(to: _Careful, settings: Deployment, keys: Keys) -> None:
    if to.has("JupyterHub", "authenticator_class"):
        to.left.append("JupyterHub.authenticator_class")
        return
    provider = Provider.discover(settings.issuer) if settings.oidc_issuer else Provider.embedded(settings.issuer)
    to.set("JupyterHub", authenticator_class=OIDCAuthenticator, template_paths=[str(_TEMPLATES)])
    to.set(
        "OIDCAuthenticator",
        **provider.model_dump(),
        client_id="themisto-hub",
        client_secret=keys.oidc_hub.get_secret_value() if keys.oidc_hub else "",
        oauth_callback_url=f"{settings.public}/hub/oauth_callback",
        post_logout_redirect_uri=f"{settings.public}/hub/login",
        scope=["openid", "profile", "email", "groups", "offline_access"],
        login_service="themisto",
        username_claim="preferred_username",
        basic_auth=True,
        enable_pkce=True,
        manage_groups=True,
        auth_state_groups_key="oauth_user.groups",
        allowed_groups=set(settings.allowed_groups),
        enable_auth_state=True,
        auth_refresh_age=_REFRESH_AGE_S,
        auth_refresh_strict=True,
        refresh_pre_spawn=True,
    )
    if keys.hub_crypt is not None:
        to.set("CryptKeeper", keys=[bytes.fromhex(keys.hub_crypt.get_secret_value())])


def _spawner(to: _Careful, settings: Deployment) -> None:
    to.merge("Spawner", "environment", {"THEMISTO_URL": settings.control_url} | settings.span_environment)
    to.set("Spawner", server_token_scopes=list(SERVER_SCOPES))
    if to.has("JupyterHub", "spawner_class"):
        to.left.append("JupyterHub.spawner_class")
        return
    to.set(
        "Spawner",
        default_url="/lab",
        start_timeout=60 if settings.spawner == "local" else 300,
        http_timeout=60,
        args=[
            f"--ServerApp.kernel_manager_class={BusyKernelManager.__module__}.{BusyKernelManager.__qualname__}",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ],
    )
    profiles = str(settings.profiles_dir.absolute())
    if settings.spawner == "kubernetes":
        from themisto_hub.spawners.kubernetes import KubernetesSpawner

        to.set("JupyterHub", spawner_class=KubernetesSpawner)
        to.set("KubernetesSpawner", profiles_dir=profiles)
        return
    from themisto_hub.spawners.cgroup import parent_of
    from themisto_hub.spawners.local import LocalSpawner

    root = _root()
    to.set("JupyterHub", spawner_class=LocalSpawner)
    to.set(
        "LocalSpawner",
        profiles_dir=profiles,
        isolated=settings.isolation == "uid",
        data_dir=str(settings.folder("homes")),
        notebooks_dir=str(root / "notebooks") if (root / "notebooks").is_dir() else "",
        code_dirs=[str(root)],
        cgroup_parent=parent_of(settings.state.absolute()),
        interrupt_timeout=8,
        term_timeout=5,
    )


def _services(to: _Careful, settings: Deployment, keys: Keys) -> None:
    services: list[dict[str, Any]] = []
    roles = group_roles(settings)
    if keys.hub_culler is not None:
        token = keys.hub_culler.get_secret_value()
        idle_s = int(os.environ.get("THEMISTO_IDLE_S", "3600"))
        run_as = _CULLER_UID if os.geteuid() == 0 and settings.isolation == "uid" else None
        services.append(culler_service(token, idle_s=idle_s, every_s=max(idle_s // 6, 1), run_as=run_as))
        roles.append({"name": "idle-culler", "services": ["idle-culler"], "scopes": list(CULLER_SCOPES)})
    for name, key, port, scopes in (
        ("themisto", keys.hub_control, settings.ports.control, CONTROL_SCOPES),
        ("tracking", keys.hub_tracking, settings.ports.tracking, TRACKING_SCOPES),
    ):
        if key is not None:
            services.append(_sibling(name, port, key.get_secret_value()))
            roles.append({"name": f"themisto-service-{name}", "services": [name], "scopes": list(scopes)})
    to.add("JupyterHub", "services", services)
    to.add("JupyterHub", "load_roles", roles)


def _sibling(name: str, port: int, token: str) -> dict[str, Any]:
    """A process that somebody else runs; the hub routes /services/<name>/ to it."""
    service: dict[str, Any] = {"name": name, "url": f"http://127.0.0.1:{port}", "api_token": token}
    service |= {"display": name == "tracking", "oauth_no_confirm": True}
    if Service.class_traits(input=True).get("timeout"):
        service["timeout"] = 1  # JupyterHub 6 waits for each before it is up itself; ours may start later
    return service


def _root() -> Path:
    """The checkout, or the folder the supervisor names: where the tour's notebooks are."""
    return Path(os.environ.get("THEMISTO_ROOT") or Path(__file__).resolve().parents[2])


class _Callable(type(sys)):  # type: ignore[misc]  # the type of modules
    """`from themisto_hub import configure` gives this module, and `configure(c)` works all the same."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[str]:
        return configure(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
