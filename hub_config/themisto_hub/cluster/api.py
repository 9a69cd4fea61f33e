"""Routes of the cluster: a rendering for the operator, artifacts for the pods that fetch them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import FileResponse
from fastapi.security import APIKeyHeader
from pydantic import SecretStr

from themisto.errors import NotFound, Refused
from themisto.serving.models import EndpointName
from themisto.types import Model, Sha256
from themisto_hub.cluster.capabilities import Feature, Target
from themisto_hub.cluster.pull import ARTIFACT_KEY
from themisto_hub.cluster.render import Rendering
from themisto_hub.cluster.service import Clusters
from themisto_hub.control.auth import Caller, OperatorKey, is_key
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.serving.guard import recorded_refusals

__all__ = ["router"]

router = APIRouter(tags=["cluster"])
InControl = Annotated[Control, Depends(get_control)]
ArtifactKey = Annotated[str | None, Depends(APIKeyHeader(name=ARTIFACT_KEY, scheme_name="artifacts", auto_error=False))]


def operator(request: Request, control: InControl, key: OperatorKey = None) -> Caller:
    """Whoever holds the operator's key, on this machine, not through the proxy. Raises NotFound, Refused (recorded)."""
    if "x-forwarded-for" in request.headers:
        raise NotFound("There is no such address here.", "Run: themisto render, on the workbench's machine.")
    remedy = "Run themisto render as the workbench's owner."
    return _holder(request, control, "operator", expected=control.keys.operator, given=key, remedy=remedy)


def puller(request: Request, control: InControl, key: ArtifactKey = None) -> Caller:
    """A container that fetches models, which alone has this key. Raises Refused (recorded)."""
    remedy = "Correct the Secret: THEMISTO_KEY_ARTIFACTS."
    return _holder(request, control, "cluster", expected=control.keys.artifacts, given=key, remedy=remedy)


def _holder(
    request: Request, control: Control, name: str, *, expected: SecretStr | None, given: str | None, remedy: str
) -> Caller:
    caller = Caller(name=name, groups=(), scopes=frozenset(), request_id=request.state.request_id)
    with recorded_refusals(control, caller, f"{name}.ask", request.url.path[:200]):
        if not is_key(given, expected):
            raise Refused(f"This is not the key of the {name}.", remedy)
    return caller


class Wish(Model):
    """What to render."""

    target: Target | None = None
    """Default: the setting THEMISTO_SERVING_TARGET."""
    without: frozenset[Feature] = frozenset()
    publish: bool = False


@router.post("/operator/render/{name}")
def render(
    name: Annotated[EndpointName, Path()], body: Wish, control: InControl, caller: Annotated[Caller, Depends(operator)]
) -> Rendering:
    """The endpoint as objects of a cluster."""
    target = body.target or control.settings.serving_target
    return Clusters(control).render(caller, name, target, without=body.without, publish=body.publish)


@router.get("/cluster/artifacts/{sha256}", response_class=FileResponse)
def artifact(
    sha256: Annotated[Sha256, Path()], control: InControl, _: Annotated[Caller, Depends(puller)]
) -> FileResponse:
    """The bytes of an artifact."""
    return FileResponse(control.serving.artifacts.path(sha256), media_type="application/octet-stream")
