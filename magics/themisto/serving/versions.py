"""Versions: which endpoint a deploy with `--new-version` goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from themisto.serving.models import Endpoint, Release, ReleaseRequest
from themisto.serving.names import base_of, version_name, version_of

if TYPE_CHECKING:
    from themisto.client import ControlPlane

__all__ = ["same_content", "version_for"]

_LOOKED_AT = 20


def version_for(control: ControlPlane, name: str, request: ReleaseRequest, *, dry_run: bool = False) -> str:
    """The version that has this very content already, so that the same cell goes on there; else the next one.

    The control plane opens it, unless it is a dry run. Raises NotFound where there is no endpoint yet,
    Refused, Conflict.
    """
    base = base_of(name)
    versions = [found for found in _endpoints(control) if base_of(found.name) == base]
    newest = max((version_of(found.name) for found in versions), default=1)
    if newest > 1 and _holds(control, version_name(base, newest), request):
        return version_name(base, newest)
    if dry_run:
        return version_name(base, newest + 1)
    return Endpoint.model_validate(control.post(f"endpoints/{base}/versions")).name


def same_content(release: Release, request: ReleaseRequest) -> bool:
    """Whether the release is what `request` will be once it has its model version."""
    fields = {name: getattr(release, name) for name in ReleaseRequest.model_fields}
    return ReleaseRequest(**fields | {"model_version": None}).content_hash == request.content_hash


def _holds(control: ControlPlane, name: str, request: ReleaseRequest) -> bool:
    answer = cast("list[Any]", control.get(f"endpoints/{name}/releases", limit=_LOOKED_AT))
    return any(same_content(Release.model_validate(one), request) for one in answer)


def _endpoints(control: ControlPlane) -> list[Endpoint]:
    found: list[Endpoint] = []
    while True:
        after = found[-1].name if found else None
        page = [Endpoint.model_validate(e) for e in cast("list[Any]", control.get("endpoints", limit=500, after=after))]
        found += page
        if len(page) < 500:
            return found
