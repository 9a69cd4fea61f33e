"""Create, inspect and stop scheduled notebooks (control plane: /schedules)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from themisto.errors import Invalid, NotFound
from themisto.profiles import Profile
from themisto.schedules.models import Job, Schedule, ScheduleRequest
from themisto.schedules.snapshot import check_parameters, take

if TYPE_CHECKING:
    from themisto.client import ControlPlane
    from themisto.settings import Settings

__all__ = ["Schedules"]

_UPLOAD_TIMEOUT_S = 300.0


class Schedules:
    """Notebooks of the caller's groups that run by themselves."""

    def __init__(self, settings: Settings, control: ControlPlane) -> None:
        self._settings = settings
        self._control = control

    def create(
        self,
        notebook: str | Path,
        *,
        cron: str,
        tz: str = "UTC",
        profile: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        files: Iterable[str | Path] = (),
        retries: int = 0,
        timeout_s: float | None = None,
        name: str | None = None,
    ) -> Schedule:
        """Store a schedule with a snapshot of its notebook and files as they are now.

        Raises Invalid for a cron, zone or parameter that is none, NotFound for a missing notebook or
        profile, Refused for a profile that is not the caller's, Conflict if the name is another's.
        """
        path = Path(notebook)
        snapshot = take(path, files)
        given = dict(parameters or {})
        request = _request(
            name=name or _slug(path.stem),
            group=self._control.group,
            notebook=snapshot.notebook,
            cron=cron,
            tz=tz,
            profile=profile or self._profile(),
            parameters=given,
            retries=retries,
            snapshot_sha256=snapshot.sha256,
            image=os.environ.get("JUPYTER_IMAGE") or None,
            lock_sha256=_lock_digest(),
            **({} if timeout_s is None else {"timeout_s": timeout_s}),
        )
        check_parameters(path, given)
        self._control.request(
            "PUT",
            f"schedules/snapshots/{snapshot.sha256}",
            content=snapshot.content,
            timeout_s=_UPLOAD_TIMEOUT_S,
        )
        return Schedule.model_validate(self._control.post("schedules", request.model_dump(mode="json")))

    def list(self) -> tuple[Schedule, ...]:
        """The schedules of the caller's groups, by name."""
        found: list[Schedule] = []
        while True:
            page = self._control.get("schedules", limit=100, after=found[-1].name if found else None)
            assert isinstance(page, list)
            found += map(Schedule.model_validate, page)
            if len(page) < 100:
                return tuple(found)

    def get(self, name: str) -> Schedule:
        """Raises NotFound."""
        return Schedule.model_validate(self._control.get(f"schedules/{_known(name)}"))

    def run(self, name: str) -> Job:
        """Run it once now, beside its times."""
        return Job.model_validate(self._control.post(f"schedules/{_known(name)}/run"))

    def pause(self, name: str) -> Schedule:
        """Fire no more until it is resumed; a running job goes on."""
        return Schedule.model_validate(self._control.post(f"schedules/{_known(name)}/pause"))

    def resume(self, name: str) -> Schedule:
        return Schedule.model_validate(self._control.post(f"schedules/{_known(name)}/resume"))

    def remove(self, name: str) -> None:
        """Forget it, with its jobs and their outputs."""
        self._control.delete(f"schedules/{_known(name)}")

    def jobs(self, name: str, *, limit: int = 20) -> tuple[Job, ...]:
        """Its jobs, newest first."""
        page = self._control.get(f"schedules/{_known(name)}/jobs", limit=limit)
        assert isinstance(page, list)
        return tuple(map(Job.model_validate, page))

    def job(self, name: str, job: str) -> Job:
        return Job.model_validate(self._control.get(f"schedules/{_known(name)}/jobs/{job}"))

    def output(self, name: str, job: str, file: str = "output.ipynb") -> bytes:
        """What a job left: `output.ipynb` or `output.html`. Raises NotFound."""
        return self._control.request("GET", f"schedules/{_known(name)}/jobs/{job}/{file}").content

    def _profile(self) -> str:
        """The cheapest profile that the group may use for jobs."""
        answer = self._control.get("profiles")
        assert isinstance(answer, list)
        group = self._control.group
        mine = [p for p in map(Profile.model_validate, answer) if "job" in p.uses and group in p.groups]
        if not mine:
            raise NotFound(f"{group} may use no profile for jobs.", "Ask a platform admin for one.")
        return min(mine, key=lambda p: (p.price_per_hour, p.name)).name


def _request(**fields: Any) -> ScheduleRequest:
    """The request, or Invalid with the first thing that is wrong with it."""
    try:
        return ScheduleRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        given = first["loc"][1] if field == "parameters" and len(first["loc"]) > 1 else first["input"]
        words = first["msg"].removeprefix("Value error, ").rstrip(".")
        if field == "parameters":
            words = "a name of letters, digits and _ is needed, and no word of Python"
        raise Invalid(
            f"{_LABELS.get(field, field)} '{given}' will not do: {words}.", "Mend it and try again."
        ) from None


_LABELS = {"cron": "The cron", "tz": "The time zone", "name": "The name", "parameters": "The parameter"}


def _slug(stem: str) -> str:
    """A schedule's name from its notebook's."""
    slug = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-")[:48]
    return slug if slug[:1].isalpha() else f"n-{slug}"[:48]


def _known(name: str) -> str:
    """`name` if it can be a schedule's: it becomes part of an address."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,47}", name):
        raise NotFound(f"There is no schedule '{name}'.", "See %schedule list.")
    return name


def _lock_digest() -> str:
    from themisto.tracking.provenance import lock_digest

    return lock_digest()
