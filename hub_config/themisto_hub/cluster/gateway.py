"""Gateway: the route table of themisto's own Envoy as ConfigMaps, whose files it watches as it does on one machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from themisto.serving.models import Release
from themisto_hub.cluster.container import GRPC, HTTP
from themisto_hub.cluster.labels import MANAGED
from themisto_hub.cluster.names import name
from themisto_hub.cluster.servers import server_name
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.cluster.workload import require_room
from themisto_hub.gateway.feature_table import TABLE
from themisto_hub.gateway.render import feature_table, render
from themisto_hub.gateway.routes import FILES, RouteTable

if TYPE_CHECKING:
    from kubernetes_asyncio.client import models as k8s

__all__ = ["address", "routes_maps"]

_TRANSFORMER_HTTP, _TRANSFORMER_GRPC = 8009, 8010


def address(release: Release, settings: ClusterSettings) -> tuple[str, str]:
    """Where the release answers in the cluster, HTTP and gRPC."""
    host = f"{server_name(release, settings, own=False)}.{settings.namespace}"
    return f"{host}:{HTTP}", f"{host}:{GRPC}"


def routes_maps(table: RouteTable, settings: ClusterSettings) -> Iterator[k8s.V1ConfigMap]:
    """Envoy's files and the transformer's, one ConfigMap a file; a projected volume puts them into one folder.

    No secret is in them: the network policy stands where keys do elsewhere. Raises Invalid for more
    than a ConfigMap holds, some ninety endpoints with two releases each.
    """
    from kubernetes_asyncio.client import models as k8s

    here = table.model_copy(
        update={
            "transformer_http": f"{settings.transformer}:{_TRANSFORMER_HTTP}",
            "transformer_grpc": f"{settings.transformer}:{_TRANSFORMER_GRPC}",
            "infer_keys": {},
            "default_key": None,
        }
    )
    rendered = render(here)
    entities = feature_table(here).model_dump(mode="json")
    entities["denied_jti"].sort()
    for file, content in ({file: rendered[file] for file in FILES} | {TABLE: entities}).items():
        data = {file: json.dumps(content, sort_keys=True, separators=(",", ":"))}
        require_room(data, f"The gateway's routes of {len(table.endpoints)} endpoints")
        yield k8s.V1ConfigMap(
            api_version="v1",
            kind="ConfigMap",
            metadata=k8s.V1ObjectMeta(
                name=name("gateway", file.removesuffix(".json")),
                namespace=settings.platform_namespace,
                labels=dict(MANAGED),
            ),
            data=data,
        )
