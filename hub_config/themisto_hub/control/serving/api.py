"""Routes of serving: artifacts, endpoints, releases, rollouts, and the operator's rollback."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from pydantic import Field, PositiveInt

from themisto.errors import NotFound
from themisto.serving.losses import LogLosses
from themisto.serving.models import Endpoint, EndpointCaller, EndpointName, Release, ReleaseRequest
from themisto.serving.rollout import Rollout
from themisto.types import Model, Number, Sha256, Slug, Ulid
from themisto_hub.control.auth import Caller, OperatorKey, anyone, is_key, needs
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.serving.diff import Diff
from themisto_hub.control.serving.prediction_log import Only
from themisto_hub.control.serving.predictions import Prediction
from themisto_hub.control.serving.service import Serving

__all__ = ["router"]

router = APIRouter(tags=["serving"])


def get_serving(control: Annotated[Control, Depends(get_control)]) -> Serving:
    return control.serving


InServing = Annotated[Serving, Depends(get_serving)]
Anyone = Annotated[Caller, Depends(anyone)]
Deployer = Annotated[Caller, Depends(needs("deploy"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
Digest = Annotated[Sha256, Path()]
Name = Annotated[EndpointName, Path()]
RolloutId = Annotated[Ulid, Path()]
Limit = Annotated[int, Query(ge=1, le=500)]
Days = Annotated[int, Query(ge=1, le=366)]


class Stored(Model):
    """An artifact that is there."""

    sha256: Sha256
    size_bytes: int


class Group(Model):
    """Which group."""

    group: Slug


class Why(Model):
    """Why a person goes back, or pauses."""

    reason: str = ""


class NextStep(Model):
    """Which step a person means, so that asking twice is one step."""

    to: PositiveInt = Field(description="index into the rollout's steps: its `step` plus one")


@router.put("/artifacts/{sha256}", status_code=201, responses={200: {"model": Stored}})
async def put_artifact(
    sha256: Digest,
    *,
    request: Request,
    response: Response,
    serving: InServing,
    caller: Deployer,
    content_length: Annotated[int | None, Header(include_in_schema=False)] = None,
) -> Stored:
    """Store the body, which must have this SHA-256; 200 where it was there already."""
    new = await serving.store(caller, sha256, request.stream(), content_length)
    response.status_code = 201 if new else 200
    return Stored(sha256=sha256, size_bytes=serving.artifacts.size_bytes(sha256))


@router.head("/artifacts/{sha256}", response_class=Response)
def has_artifact(sha256: Digest, serving: InServing, caller: Deployer) -> Response:
    """200 where it is stored: no need to upload it."""
    return Response(headers={"x-size-bytes": str(serving.artifacts.size_bytes(sha256))})


@router.get("/endpoints")
def endpoints(
    serving: InServing, caller: Anyone, limit: Limit = 100, after: EndpointName | None = None
) -> list[Endpoint]:
    """Endpoints of the caller's groups and offered to them (approvers, auditors and admins: all), by name."""
    return serving.page(caller, limit=limit, after=after)


@router.get("/endpoints/{name}")
def endpoint(name: Name, serving: InServing, caller: Anyone) -> Endpoint:
    return serving.endpoint(caller, name)


@router.post("/endpoints/{name}/releases", status_code=201, responses={200: {"model": Release}})
def create_release(
    name: Name, body: ReleaseRequest, response: Response, serving: InServing, caller: Deployer
) -> Release:
    """Record a release and open its rollout; 200 where the same content was released before."""
    release, new = serving.release(caller, name, body)
    response.status_code = 201 if new else 200
    return release


@router.get("/endpoints/{name}/releases")
def releases(
    name: Name, serving: InServing, caller: Anyone, limit: Limit = 20, after: Number | None = None
) -> list[Release]:
    """Newest first."""
    return serving.releases.page(caller, name, limit=limit, after=after)


@router.get("/endpoints/{name}/releases/{number}")
def release(name: Name, number: Number, serving: InServing, caller: Anyone) -> Release:
    return serving.releases.get(caller, name, number)


@router.get("/endpoints/{name}/rollouts/{rollout}")
def rollout(name: Name, rollout: RolloutId, serving: InServing, caller: Anyone) -> Rollout:
    return serving.rollout(caller, name, rollout)


@router.post("/endpoints/{name}/rollouts/{rollout}/promote")
def promote(name: Name, rollout: RolloutId, serving: InServing, caller: Deployer) -> Endpoint:
    """The candidate becomes stable."""
    return serving.rollouts.promote(caller, name, rollout)


@router.post("/endpoints/{name}/rollouts/{rollout}/step")
def step(name: Name, rollout: RolloutId, body: NextStep, serving: InServing, caller: Deployer) -> Endpoint:
    """The next share of the traffic, by hand; 409 where another step is next by now."""
    return serving.rollouts.step(caller, name, rollout, to=body.to)


@router.post("/endpoints/{name}/rollouts/{rollout}/pause")
def pause(
    name: Name,
    rollout: RolloutId,
    serving: InServing,
    caller: Deployer,
    body: Annotated[Why | None, Body()] = None,
) -> Endpoint:
    """From now on only a person takes the steps; a breach still goes back by itself."""
    return serving.rollouts.pause(caller, name, rollout, reason=body.reason if body else "")


@router.post("/endpoints/{name}/rollouts/{rollout}/resume")
def resume(name: Name, rollout: RolloutId, serving: InServing, caller: Deployer) -> Endpoint:
    """The analysis takes the steps from now on."""
    return serving.rollouts.resume(caller, name, rollout)


@router.post("/endpoints/{name}/rollouts/{rollout}/approvals")
def approve(name: Name, rollout: RolloutId, serving: InServing, caller: Anyone) -> None:
    """Always refused, whatever the token: a person approves on the review page."""
    serving.rollouts.refuse_approval(caller, name, rollout)


@router.post("/endpoints/{name}/rollback")
def rollback(name: Name, serving: InServing, caller: Deployer, body: Annotated[Why | None, Body()] = None) -> Endpoint:
    """End the rollout on its way, or bring the earlier release back."""
    return serving.rollback(caller, name, reason=body.reason if body else "")


@router.post("/endpoints/{name}/retire")
def retire(name: Name, serving: InServing, caller: Deployer, force: bool = False) -> Endpoint:
    """Nothing answers any more; 409 while it has callers of the last week, unless forced."""
    return serving.retire(caller, name, force=force)


@router.post("/endpoints/{name}/claim")
def claim(name: Name, body: Group, serving: InServing, caller: Deployer) -> Endpoint:
    """Reserve the name for a group of the caller's."""
    return serving.names.claim(caller, name, body.group)


@router.post("/endpoints/{name}/versions")
def open_version(name: Name, serving: InServing, caller: Deployer) -> Endpoint:
    """The endpoint of the next version, which answers beside the others."""
    return serving.names.open_version(caller, name)


@router.put("/endpoints/{name}/offer")
def offer(name: Name, body: Group, serving: InServing, caller: Deployer) -> Endpoint:
    """Offer the name and its versions to another group."""
    return serving.names.offer(caller, name, body.group)


@router.delete("/endpoints/{name}/offer")
def withdraw(name: Name, serving: InServing, caller: Deployer) -> Endpoint:
    return serving.names.withdraw(caller, name)


@router.post("/endpoints/{name}/offer/accept")
def accept(name: Name, serving: InServing, caller: Deployer) -> Endpoint:
    """Take the name over for the group it is offered to."""
    return serving.accept(caller, name)


@router.post("/endpoints/{name}/free", status_code=204)
def free(name: Name, serving: InServing, caller: Admin) -> None:
    """Give a name that was retired long ago back to all."""
    serving.names.free(caller, name)


@router.get("/endpoints/{name}/callers")
def callers(name: Name, serving: InServing, caller: Deployer, days: Days = 30) -> list[EndpointCaller]:
    """Who was answered by which version of the name, newest first."""
    return serving.callers.of(caller, name, days=days)


@router.get("/endpoints/{name}/diff")
def diff(name: Name, serving: InServing, caller: Anyone) -> Diff:
    """The candidate against stable."""
    return serving.endpoints.diff(caller, name)


@router.get("/endpoints/{name}/log")
def prediction_log(
    name: Name,
    *,
    response: Response,
    serving: InServing,
    caller: Deployer,
    about: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    only: Only | None = None,
    after: Annotated[str | None, Query(max_length=1000)] = None,
    bodies: bool = True,
    limit: Limit = 20,
) -> list[Prediction]:
    """The newest predictions of an endpoint of the caller's groups; `x-next` is the `after` of the next page."""
    found, place = serving.predictions.newest(
        caller, name, about=about, only=only, after=after, bodies=bodies, limit=limit
    )
    if place:
        response.headers["x-next"] = place
    return found


@router.get("/predictions/losses")
def prediction_log_losses(serving: InServing, caller: Deployer) -> LogLosses:
    """How many lines of the prediction log were lost, of all endpoints together."""
    return serving.predictions.losses()


@router.post("/operator/rollback/{name}")
def operator_rollback(
    name: Name,
    *,
    request: Request,
    serving: InServing,
    control: Annotated[Control, Depends(get_control)],
    key: OperatorKey = None,
    body: Annotated[Why | None, Body()] = None,
) -> Endpoint:
    """Roll back with the operator's key, while the hub is down; on this machine only, not through the proxy."""
    if "x-forwarded-for" in request.headers:
        raise NotFound("There is no such address here.", "Run: themisto rollback, on the workbench's machine.")
    caller = Caller(name="operator", groups=(), scopes=frozenset(), request_id=request.state.request_id)
    return serving.operator_rollback(
        caller, name, known=is_key(key, control.keys.operator), reason=body.reason if body else ""
    )
