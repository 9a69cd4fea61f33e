"""Routes of gates: hold-outs, what an endpoint pins, and what is retrained by itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from themisto.serving.gates import Drift, Quality, Retraining, RetrainingRequest
from themisto.serving.holdout import HoldOut, HoldOutRequest
from themisto.serving.models import Endpoint, EndpointName
from themisto.types import Model, Sha256, Slug
from themisto_hub.control.auth import Caller, anyone, needs
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.serving.service import Serving

__all__ = ["router"]

router = APIRouter(tags=["gates"])


def get_serving(control: Annotated[Control, Depends(get_control)]) -> Serving:
    return control.serving


InServing = Annotated[Serving, Depends(get_serving)]
Anyone = Annotated[Caller, Depends(anyone)]
Deployer = Annotated[Caller, Depends(needs("deploy"))]
Digest = Annotated[Sha256, Path()]
Group = Annotated[Slug, Path()]
Name = Annotated[EndpointName, Path()]


class StoredRows(Model):
    """The bytes of a hold-out that are there."""

    sha256: Sha256


@router.put("/holdouts/{group}/{sha256}", status_code=201)
async def put_holdout(
    group: Group,
    sha256: Digest,
    *,
    request: Request,
    response: Response,
    serving: InServing,
    caller: Deployer,
    content_length: Annotated[int | None, Header(include_in_schema=False)] = None,
) -> StoredRows:
    """Store the Parquet file, which must have this SHA-256; 200 where the group has it already."""
    new = await serving.holdouts.upload(caller, group, sha256, request.stream(), content_length)
    response.status_code = 201 if new else 200
    return StoredRows(sha256=sha256)


@router.post("/holdouts", status_code=201)
def register_holdout(body: HoldOutRequest, serving: InServing, caller: Deployer) -> HoldOut:
    """What was uploaded becomes a hold-out of the group, under a name."""
    return serving.holdouts.register(caller, body)


@router.get("/holdouts")
def holdouts(
    group: Annotated[Slug, Query()], serving: InServing, caller: Deployer, limit: Annotated[int, Query(le=500)] = 100
) -> list[HoldOut]:
    """Of a group of the caller's, newest first; the rows themselves are never handed out."""
    return serving.holdouts.page(caller, group, limit=limit)


@router.put("/endpoints/{name}/gates")
def pin_gates(name: Name, body: Quality, serving: InServing, caller: Deployer) -> Endpoint:
    """Every later release must pass these gates."""
    return serving.policies.pin(caller, name, body)


@router.delete("/endpoints/{name}/gates")
def unpin_gates(name: Name, serving: InServing, caller: Deployer) -> Endpoint:
    return serving.policies.unpin(caller, name)


@router.get("/endpoints/{name}/retraining")
def retraining(name: Name, serving: InServing, caller: Anyone) -> Retraining | None:
    """What is run when the model has become too bad; null where nothing is."""
    return serving.retrainings.get(caller, name)


@router.put("/endpoints/{name}/retraining")
def set_retraining(name: Name, body: RetrainingRequest, serving: InServing, caller: Deployer) -> Retraining | None:
    return serving.retrainings.set(caller, name, body)


@router.delete("/endpoints/{name}/retraining", status_code=204)
def unset_retraining(name: Name, serving: InServing, caller: Deployer) -> None:
    serving.retrainings.set(caller, name, None)


@router.post("/endpoints/{name}/drift")
def report_drift(name: Name, body: Drift, serving: InServing, caller: Deployer) -> Retraining | None:
    """A monitor of the owning group saw drift: recorded, and what is named for it is started."""
    return serving.retrainings.drifted(caller, name, body.reason)
