"""The choice of a profile: who sees which, and what a request may ask for. Shared by every spawner of ours."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubespawner import KubeSpawner
from traitlets import Bool, Instance, Unicode, default
from traitlets.config import Configurable

from themisto.errors import ThemistoError
from themisto.profiles import Profile, Use
from themisto_hub.profiles import allowed, load_profiles
from themisto_hub.quota import Quota
from themisto_hub.refusal import Refusal

__all__ = ["JOB_COMMAND", "JOB_PREFIX", "NO_ISOLATION", "KubeForm", "ProfileChoice", "profile_list"]

JOB_PREFIX = "job-"
"""A named server that begins so runs one job instead of Lab."""

JOB_COMMAND = ("-m", "themisto.schedules.job")
NO_ISOLATION = "One trust domain: no isolation, limits advisory."
_OPTIONS = {"profile", "group", "image"}


class ProfileChoice(Configurable):
    """Mixed into a Spawner: offers the profiles of the person's groups, refuses all others.

    The form is KubeSpawner's own, whatever the spawner. What arrives (form or REST:
    `{"profile": name, "group": one of hers, "image": one of the profile's}`) is checked here again.
    """

    profiles_dir = Unicode("profiles", config=True, help="folder with one YAML file a profile")
    quota = Instance(Quota, help="how many servers may run at once")
    isolated = Bool(True, config=True, help="False: the spawn page says that there is no isolation")

    name: str
    user: Any
    orm_spawner: Any
    profile: Profile | None = None
    group: str = ""

    @property
    def is_job(self) -> bool:
        """True for the server of one job."""
        return bool(self.name.startswith(JOB_PREFIX))

    @property
    def use(self) -> Use:
        return "job" if self.is_job else "notebook"

    @property
    def groups(self) -> list[str]:
        """The person's groups, as of the last refresh."""
        return sorted(group.name for group in self.user.groups)

    def offered(self) -> list[Profile]:
        """The profiles this person may use for this server, cheapest first. Read anew each time."""
        return allowed(load_profiles(Path(self.profiles_dir)), self.groups, self.use)

    def overrides(self, profile: Profile) -> dict[str, Any]:
        """What the profile sets on this kind of spawner (KubeSpawner's `kubespawner_override`)."""
        raise NotImplementedError

    async def choose(self, options: Mapping[str, Any]) -> None:
        """Check what was asked for, and set `profile` and `group`.

        Raises Refusal: 400 for options that are none, 403 for a profile or group that is not hers,
        429 when too many servers run, 500 when the profiles themselves are broken.
        """
        try:
            offered = self.offered()
        except ThemistoError as error:
            raise Refusal(500, f"The profiles cannot be read. {error}") from error
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            raise Refusal(400, f"There is no option {', '.join(map(repr, unknown))}.")
        self.profile = _chosen(offered, options.get("profile"))
        image = options.get("image")
        if image is not None and image not in self.profile.images:
            raise Refusal(400, f"The profile {self.profile.name} has no such image.")
        self.group = _one_of(self.groups, options.get("group"), self.profile)
        self.quota.check(self, self.group)
        # Kept with the server: who counts hours reads profile and group there.
        self.user_options = {**options, "profile": self.profile.name, "group": self.group}
        self.orm_spawner.user_options = self.user_options

    @default("quota")
    def _quota(self) -> Quota:
        return Quota(parent=self)

    # What JupyterHub calls, with KubeSpawner's own form behind it.

    @default("options_form")
    def _options_form(self) -> Callable[..., Any]:
        return _render

    @default("options_from_form")
    def _options_from_form(self) -> Callable[..., Any]:
        def read(form: Mapping[str, list[str]]) -> dict[str, str]:
            known = {key: value for key, value in form.items() if key not in ("group", "_xsrf")}
            options: dict[str, str] = KubeSpawner._options_from_form(self, known)
            if form.get("group"):
                options["group"] = form["group"][0]
            return options

        return read

    @default("apply_user_options")
    def _apply_user_options(self) -> Callable[..., Any]:
        return lambda spawner, options: spawner.choose(options or {})


class KubeForm:
    """What KubeSpawner's form needs of a spawner, for one that is no KubeSpawner."""

    profile_form_template = ""
    additional_profile_form_template_paths: tuple[str, ...] = ()
    _get_initialized_profile_list = KubeSpawner._get_initialized_profile_list
    _validate_user_options = KubeSpawner._validate_user_options
    _get_profile = KubeSpawner._get_profile


async def profile_list(spawner: Any) -> list[dict[str, Any]]:
    """KubeSpawner's profile list of this person, evaluated again at every form and every start."""
    return [
        {
            "slug": profile.name,
            "display_name": html.escape(profile.display_name),
            "description": _described(profile),
            "kubespawner_override": spawner.overrides(profile),
            **({"profile_options": {"image": _images(profile)}} if len(profile.images) > 1 else {}),
        }
        for profile in spawner.offered()
    ]


def _described(profile: Profile) -> str:
    """What it is for, and below that its shape and price."""
    facts = html.escape(f"{profile.shape}, {profile.price_per_hour:.2f} an hour")
    return f'{html.escape(profile.description)}<br><small class="text-body-secondary">{facts}</small>'


def _images(profile: Profile) -> dict[str, Any]:
    choices = {
        image: {"display_name": html.escape(image), "kubespawner_override": {"image": image}}
        for image in profile.images
    }
    return {"display_name": "Image", "choices": choices}


async def _render(spawner: Any) -> str:
    profiles = await profile_list(spawner)
    banner = "" if spawner.isolated else f'<div class="alert alert-warning" role="alert">{NO_ISOLATION}</div>'
    if not profiles:
        return f'{banner}<p class="alert alert-danger">No profile is open to your groups. Ask a platform admin.</p>'
    form: str = KubeSpawner._render_options_form(spawner, profiles)
    return banner + form + _group_field(spawner.groups)


def _group_field(groups: list[str]) -> str:
    """Whose work this is, where a person is in several groups."""
    if len(groups) < 2:
        return ""
    options = "".join(f"<option>{html.escape(group)}</option>" for group in groups)
    return f'<label for="group">Work for the group</label> <select id="group" name="group">{options}</select>'


def _chosen(offered: list[Profile], name: object) -> Profile:
    if not offered:
        raise Refusal(403, "No profile is open to your groups. Ask a platform admin.")
    if name in (None, ""):
        return offered[0]
    for profile in offered:
        if profile.name == name:
            return profile
    raise Refusal(403, f"That profile is not open to you here. You may use: {', '.join(p.name for p in offered)}.")


def _one_of(groups: list[str], group: object, profile: Profile) -> str:
    mine = [g for g in groups if g in profile.groups]
    if group is None:
        return mine[0]
    if group not in groups:
        raise Refusal(403, f"You are in no such group. Yours: {', '.join(groups)}.")
    if group not in mine:
        raise Refusal(403, f"The profile {profile.name} is not open to the group {group}.")
    return str(group)
