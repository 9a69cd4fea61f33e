"""Labels: how objects say what they are, and annotations that say which releases they carry and who approved them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from themisto.serving.models import Release
from themisto_hub.cluster.names import label
from themisto_hub.cluster.plan import Placed
from themisto_hub.cluster.servers import Server

__all__ = ["MANAGED", "endpoint_labels", "labels", "provenance", "release_labels", "selector"]

MANAGED = {"app.kubernetes.io/part-of": "themisto", "app.kubernetes.io/managed-by": "themisto"}


def labels(server: Server) -> dict[str, str]:
    """Of a Triton's objects and pods. They do not change while the server lives, whatever it holds."""
    own = {}
    if server.group is not None:
        own["themisto.dev/group"] = label(server.group)
    if server.release is not None:
        own |= release_labels(server.release)
    return (
        selector(server)
        | MANAGED
        | own
        | {
            "app.kubernetes.io/component": "model-server",
            "themisto.dev/tier": server.tier,
            "themisto.dev/profile": label(server.profile.name),
        }
    )


def selector(server: Server) -> dict[str, str]:
    """What tells a Triton's pods from all others."""
    return {"app.kubernetes.io/name": "triton", "app.kubernetes.io/instance": server.name}


def release_labels(release: Release) -> dict[str, str]:
    """What tells the pods of a release from those of others, where each has its own."""
    return {"themisto.dev/endpoint": label(release.endpoint), "themisto.dev/release": str(release.number)}


def endpoint_labels(endpoint: str) -> dict[str, str]:
    """Of what belongs to an endpoint, not to one Triton."""
    return MANAGED | {
        "app.kubernetes.io/name": "triton",
        "app.kubernetes.io/component": "endpoint",
        "themisto.dev/endpoint": label(endpoint),
    }


def provenance(placed: Iterable[Placed]) -> dict[str, str]:
    """Which releases, by id, hash and artifact, and whose word they run by: what an auditor compares with the chain."""
    told = {str(one.release): _told(one) for one in placed}
    return {"themisto.dev/releases": json.dumps(told, sort_keys=True)}


def _told(placed: Placed) -> dict[str, str]:
    release, approval = placed.release, placed.approval
    told = {
        "id": release.id,
        "hash": release.hash,
        "artifact_sha256": release.artifact.sha256,
        "author": release.author,
    }
    return told | ({"approved_by": approval.by, "approved_at": approval.at.isoformat()} if approval else {})
