"""Fallbacks: which models stand in for a release in the route table, and the rule as a model of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from themisto.serving.models import Release, triton_name
from themisto_hub.gateway.fallback import DefaultAnswer, StandIn

__all__ = ["rule_of", "stand_ins"]


def rule_of(release: Release) -> Release | None:
    """The function that was released with it, to be loaded and asked like a release: `rule.credit--7`."""
    if release.fallback is None or release.fallback.rule is None:
        return None
    return release.model_copy(update={"endpoint": f"rule.{release.endpoint}", "artifact": release.fallback.rule})


def stand_ins(
    release: Release, earlier: Release | None, address: Callable[[Release], tuple[str, str]]
) -> dict[str, Any]:
    """The fields of the release's target that say what answers in its place, in order.

    earlier: the stable release behind a candidate, or the one before stable. One with another signature takes
        other requests, so it does not stand in.
    """
    found = []
    if earlier is not None and earlier.signature == release.signature:
        found.append(_stand_in("earlier", earlier, address))
    rule = rule_of(release)
    if rule is not None:
        found.append(_stand_in("rule", rule, address))
    declared = release.fallback
    default = declared.default if declared else None
    return {
        "fallbacks": tuple(found),
        "default": DefaultAnswer(outputs=release.signature.outputs, values=default) if default else None,
        "fallback_after_ms": declared.after_ms if declared else None,
    }


def _stand_in(kind: Any, release: Release, address: Callable[[Release], tuple[str, str]]) -> StandIn:
    http, grpc = address(release)
    name = triton_name(release.endpoint, release.number)
    service = release.feature_service
    return StandIn(
        kind=kind,
        release=name,
        http=http,
        grpc=grpc,
        feature_service=service,
        feature_group=release.group if service else None,
    )
