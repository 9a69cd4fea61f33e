"""The feature table: which releases are asked by entity key, where they answer, which service feeds them.

One JSON file that is written together with Envoy's routes and read by the transformer on change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from themisto.types import Model
from themisto_hub.gateway.fallback import DefaultAnswer
from themisto_hub.gateway.feature_callers import Trusted
from themisto_hub.gateway.put import put

__all__ = ["TABLE", "FeatureRelease", "FeatureTable", "with_releases_in_use", "write_table"]

TABLE = "transformer.json"
T = TypeVar("T")


class FeatureRelease(Model):
    """One release whose inputs the gateway looks up. Addresses are `host:port` or `unix:/path`."""

    endpoint: str
    group: str
    feature_service: str
    feature_group: str | None = None
    """Whose service it is; default: `group`."""
    http: str
    grpc: str


class FeatureTable(Model):
    """By Triton's name of the release (`credit--7`); the ids of revoked tokens; who else signs tokens."""

    releases: Mapping[str, FeatureRelease] = {}
    defaults: Mapping[str, DefaultAnswer] = {}
    """What these releases have declared for when nothing answers."""
    denied_jti: frozenset[str] = frozenset()
    issuers: tuple[Trusted, ...] = ()


def with_releases_in_use(table: FeatureTable, folder: Path) -> FeatureTable:
    """With the releases of before that the routes in force still name: Envoy asks them until it has the new ones."""
    try:
        before = FeatureTable.model_validate_json((folder / TABLE).read_bytes())
        routes = (folder / "rds.json").read_text()
    except (OSError, ValueError):
        return table

    def in_use(entries: Mapping[str, T]) -> dict[str, T]:
        return {name: one for name, one in entries.items() if name in routes}

    return table.model_copy(
        update={
            "releases": in_use(before.releases) | dict(table.releases),
            "defaults": in_use(before.defaults) | dict(table.defaults),
        }
    )


def write_table(table: FeatureTable, folder: Path) -> None:
    """Put the table in place, atomically."""
    put(folder / TABLE, table.model_dump_json())
