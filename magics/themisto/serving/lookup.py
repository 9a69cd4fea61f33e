"""Lookup: an endpoint or a release, as the control plane has it now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from themisto.errors import NotFound
from themisto.serving.models import Endpoint, Release

if TYPE_CHECKING:
    from themisto.client import ControlPlane

__all__ = ["endpoint_of", "find_endpoint", "release_of"]


def endpoint_of(control: ControlPlane, name: str) -> Endpoint:
    """Raises NotFound."""
    return Endpoint.model_validate(control.get(f"endpoints/{name}"))


def find_endpoint(control: ControlPlane, name: str) -> Endpoint | None:
    """None where there is no endpoint of that name yet."""
    try:
        return endpoint_of(control, name)
    except NotFound:
        return None


def release_of(control: ControlPlane, endpoint: str, number: int) -> Release:
    """Raises NotFound."""
    return Release.model_validate(control.get(f"endpoints/{endpoint}/releases/{number}"))
