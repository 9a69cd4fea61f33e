"""Plans as the control plane reads them, without a database; a cluster's settings as a bank would have them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from themisto.profiles import Profile
from themisto.serving.models import Artifact, Column, Golden, Release, ServingConfig, Signature
from themisto.serving.rollout import Approval
from themisto_hub.cluster.plan import Placed, Plan
from themisto_hub.cluster.render import render
from themisto_hub.cluster.settings import ClusterSettings
from themisto_hub.gateway.routes import Issuer, Route, RouteTable, Target

DIGEST = "@sha256:" + "ab" * 32
AT = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
KEY = {
    "kty": "EC",
    "crv": "P-256",
    "use": "sig",
    "alg": "ES256",
    "kid": "one",
    "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
    "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
}
"""The curve's own base point: a public key that nobody signs with."""
PROFILES = {
    name: Profile.model_validate(
        {
            "name": name,
            "display_name": name,
            "cpu": 2,
            "memory_gib": 4,
            "images": ["x"],
            "groups": ["data-science"],
            "price_per_hour": Decimal(1),
            "uses": ["model"],
            "gpu": gpu,
        }
    )
    for name, gpu in (("cpu-small", None), ("gpu-full", {"count": 1}), ("gpu-mig-1g", {"mig": "1g.10gb"}))
}


def settings(**change: Any) -> ClusterSettings:
    images = {
        "triton_image": f"nvcr.io/nvidia/tritonserver{DIGEST}",
        "code_image": f"registry.bank.example/triton-code{DIGEST}",
        "puller_image": f"registry.bank.example/themisto{DIGEST}",
    }
    return ClusterSettings(**{**images, **change})


def release(number: int = 1, endpoint: str = "credit", **change: Any) -> Release:
    content = {
        "group": "data-science",
        "tier": "prod",
        "artifact": Artifact(kind="onnx", sha256=hashlib.sha256(b"%d" % number).hexdigest(), size_bytes=1000 + number),
        "signature": Signature(
            inputs=(Column(name="income", dtype="FP32"), Column(name='a "quoted" {name}', dtype="BYTES")),
            outputs=(
                Column(name="label", dtype="INT64", shape=()),
                Column(name="probabilities", dtype="FP32", shape=(2,)),
            ),
        ),
        "serving": ServingConfig(),
        "golden": Golden(inputs={"income": [1.0]}, outputs={"label": [1]}),
        "id": f"01K{number:023d}",
        "endpoint": endpoint,
        "number": number,
        "author": "scientist",
        "created_at": AT,
        "hash": hashlib.sha256(f"{endpoint}{number}".encode()).hexdigest(),
    }
    return Release.model_validate(content | change)


def approval(of: Release, **change: Any) -> Approval:
    given = {"by": "reviewer", "decision": "approve", "release_hash": of.hash, "logged_in_at": AT, "at": AT}
    return Approval.model_validate(given | change)


def placed(of: Release, weight_pct: int = 0, *, shadow: bool = False, approved: bool = True) -> Placed:
    return Placed(release=of, weight_pct=weight_pct, shadow=shadow, approval=approval(of) if approved else None)


def plan(strategy: str | None = None, weight_pct: int = 5, **change: Any) -> Plan:
    """credit: release 7 stable; with a strategy, 8 beside it; 6 to go back to."""
    shadow = strategy == "shadow"
    share = 0 if strategy is None or shadow else weight_pct
    parts = {
        "endpoint": "credit",
        "group": "data-science",
        "tier": "prod",
        "strategy": strategy,
        "stable": placed(release(7), 100 - share),
        "candidate": placed(release(8), share, shadow=shadow) if strategy else None,
        "previous": placed(release(6)),
    }
    return Plan.model_validate(parts | change)


def table(of: Plan) -> RouteTable:
    """The gateway's, as the control plane makes it."""
    targets = tuple(
        Target(
            release=f"{of.endpoint}--{p.release.number}",
            weight_pct=p.weight_pct,
            shadow=p.shadow,
            http="triton-prod-cpu-small.themisto-serving:8000",
            grpc="triton-prod-cpu-small.themisto-serving:8001",
        )
        for p in of.serving
    )
    route = Route(name=of.endpoint, group=of.group, tier=of.tier, releases=targets)
    issuer = Issuer(issuer="https://hub.bank.example/services/themisto", jwks={"keys": [KEY]})
    return RouteTable(endpoints=(route,), issuers=(issuer,))


def rendered(of: Plan, target: str, cluster: ClusterSettings | None = None, **more: Any) -> str:
    return render(of, target, PROFILES, cluster or settings(), table=table(of), **more).text
