"""Servers: which Triton holds which release, and what its pods fetch before it starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field, PositiveInt

from themisto.errors import Invalid, NotFound
from themisto.profiles import Profile
from themisto.serving.models import Artifact, Release, Tier, triton_name
from themisto.types import Model, Slug
from themisto_hub.cluster.names import name
from themisto_hub.cluster.plan import Placed, Plan
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.model_server.repository import files, model_config

__all__ = ["Fetch", "Fetches", "Server", "fetch_for", "profile_of", "server_name", "servers"]


class Fetch(Model):
    """One release to fetch: `<name>/<version>/…` and `<name>/config.pbtxt` of Triton's repository."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")]
    version: PositiveInt
    artifact: Artifact
    config: str
    """config.pbtxt, whole."""

    def files(self, data: bytes) -> dict[str, bytes]:
        """What lies in the repository, by path, for the artifact's bytes. Raises Invalid for a zip that is none."""
        found = {f"{self.name}/config.pbtxt": self.config.encode()}
        for path, content in files(self.artifact.kind, data).items():
            found[f"{self.name}/{self.version}/{path.removeprefix('1/')}"] = content
        return found


class Fetches(Model):
    """All that a pod fetches before its Triton starts."""

    models: tuple[Fetch, ...] = Field(min_length=1)

    @property
    def text(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(one.artifact.size_bytes for one in self.models)


class Server(Model):
    """One Triton Deployment: its name, what it holds, on which shape.

    group: whose code it runs, apart from all others; None for ONNX.
    release: the only one it holds, where each has a Triton of its own.
    """

    name: str
    tier: Tier
    profile: Profile
    group: Slug | None
    release: Release | None
    fetches: Fetches
    placed: tuple[Placed, ...]


def servers(
    plans: Iterable[Plan], profiles: Mapping[str, Profile], settings: ClusterSettings, *, own: bool
) -> tuple[Server, ...]:
    """The Tritons that hold all releases of the plans, by name.

    own: one a release; otherwise one a tier and profile, and for code one a group, tier and profile.
    Raises NotFound for a profile that is not there, Invalid for one that is not for models.
    """
    found: dict[str, list[Placed]] = {}
    for plan in plans:
        for placed in plan.placed:
            found.setdefault(server_name(placed.release, settings, own=own), []).append(placed)
    return tuple(_server(key, held, profiles, settings, own=own) for key, held in sorted(found.items()))


def server_name(release: Release, settings: ClusterSettings, *, own: bool) -> str:
    """Of the Triton that holds the release; also its Service's."""
    if own:
        return name("release", release.endpoint, str(release.number))
    profile = release.profile or settings.default_profile
    if release.artifact.is_code:
        return name("code", release.tier, release.group, profile)
    return name("triton", release.tier, profile)


def _server(
    key: str, held: list[Placed], profiles: Mapping[str, Profile], settings: ClusterSettings, *, own: bool
) -> Server:
    held = sorted(held, key=lambda placed: (placed.release.endpoint, placed.release.number))
    first = held[0].release
    profile = profile_of(first, profiles, settings)
    return Server(
        name=key,
        tier=first.tier,
        profile=profile,
        group=first.group if first.artifact.is_code else None,
        release=first if own else None,
        fetches=Fetches(models=tuple(fetch_for(one.release, profile, own=own) for one in held)),
        placed=tuple(held),
    )


def profile_of(release: Release, profiles: Mapping[str, Profile], settings: ClusterSettings) -> Profile:
    """The shape the release runs on. Raises NotFound, or Invalid for a profile that is not for models."""
    wanted = release.profile or settings.default_profile
    profile = profiles.get(wanted)
    if profile is None:
        raise NotFound(f"{release} is for the profile '{wanted}', which is not there.", "Add it to the profiles.")
    if "model" not in profile.uses:
        raise Invalid(f"{release} is for the profile '{wanted}', which is not for models.", "Add 'model' to its uses.")
    return profile


def fetch_for(release: Release, profile: Profile, *, own: bool) -> Fetch:
    """How the release lies in a repository.

    own: alone in its Triton, under the endpoint's name with its number as version, so that callers
    ask by the endpoint and the answer's `model_version` says the release. Otherwise `credit--7`,
    version 1, which the gateway asks for.
    """
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2 as pb

    name = release.endpoint if own else triton_name(release.endpoint, release.number)
    kind = release.artifact.kind
    message = json_format.ParseDict(model_config(name, kind, release.signature, release.serving), pb.ModelConfig())
    if profile.gpu is not None and kind == "onnx":
        for group in message.instance_group:
            group.kind = pb.ModelInstanceGroup.KIND_GPU
    return Fetch(
        name=name,
        version=release.number if own else 1,
        artifact=release.artifact,
        config=text_format.MessageToString(message, as_utf8=False),
    )
