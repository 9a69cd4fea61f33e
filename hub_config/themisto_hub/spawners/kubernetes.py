"""Servers as pods: KubeSpawner with the same profiles, as little power inside a pod as Lab needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubespawner import KubeSpawner
from traitlets import List, Unicode, default

from themisto.profiles import Profile
from themisto_hub.profiles import gpu_resources
from themisto_hub.spawners.choice import JOB_COMMAND, ProfileChoice, profile_list

__all__ = ["KubernetesSpawner"]

_UID, _GID = 1000, 100
"""`jovyan` and `users` of the Jupyter images."""


class KubernetesSpawner(ProfileChoice, KubeSpawner):  # type: ignore[misc]  # kubespawner is not typed
    """One pod a server, one claim a person; a job's pod mounts neither her claim nor any token of the cluster."""

    job_command = List(Unicode(), ["python", *JOB_COMMAND], config=True, help="what the server of a job runs")

    @default("profile_list")
    def _profile_list(self) -> Any:
        return profile_list

    @default("cmd")
    def _cmd(self) -> list[str]:
        return ["jupyterhub-singleuser"]

    def overrides(self, profile: Profile) -> dict[str, Any]:
        resources = gpu_resources(profile.gpu)
        return {
            "image": profile.images[0],
            "cpu_limit": profile.cpu,
            "cpu_guarantee": profile.cpu / 2,
            "mem_limit": profile.memory_bytes,
            "mem_guarantee": profile.memory_bytes,
            "extra_resource_limits": resources,
            "extra_resource_guarantees": resources,
            "extra_labels": {"themisto.dev/profile": profile.name},
        }

    async def choose(self, options: Mapping[str, Any]) -> None:
        await super().choose(options)
        # A named server keeps its spawner object: what one profile added must not stay for the next.
        self.set_trait("extra_resource_limits", {})
        self.set_trait("extra_resource_guarantees", {})
        if self.is_job:
            self.cmd = list(self.job_command)
            self.storage_pvc_ensure = False
            self.set_trait("volumes", {})
            self.set_trait("volume_mounts", {})

    async def load_user_options(self) -> None:
        assert self.profile is not None, "apply_user_options runs first"
        await super().load_user_options()
        labels: dict[str, str] = self.extra_labels
        self.set_trait("extra_labels", labels | {"themisto.dev/group": self.group})

    def get_args(self) -> list[str]:
        return [] if self.is_job else list(super().get_args())

    def get_env(self) -> dict[str, Any]:
        env: dict[str, Any] = super().get_env()
        return env | {"THEMISTO_GROUP": self.group}

    # Defaults of a careful pod; each can be set in the hub's configuration.

    @default("uid")
    def _uid_default(self) -> int:
        return _UID

    @default("gid")
    def _gid_default(self) -> int:
        return _GID

    @default("fs_gid")
    def _fs_gid_default(self) -> int:
        return _GID

    @default("container_security_context")
    def _container_security_context_default(self) -> dict[str, Any]:
        return {
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }

    @default("slug_scheme")
    def _slug_scheme_default(self) -> str:
        return "safe"

    @default("storage_pvc_ensure")
    def _storage_pvc_ensure_default(self) -> bool:
        return True

    @default("storage_capacity")
    def _storage_capacity_default(self) -> str:
        return "10Gi"

    @default("pvc_name_template")
    def _pvc_name_template_default(self) -> str:
        return "home-{user_server}" if self.is_job else "home-{username}"

    @default("volumes")
    def _volumes_default(self) -> dict[str, Any]:
        return {"home": {"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}}

    @default("volume_mounts")
    def _volume_mounts_default(self) -> dict[str, Any]:
        return {"home": {"name": "home", "mountPath": "/home/jovyan"}}
