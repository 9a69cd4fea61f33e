"""Routes of the streams: a token for the process that runs them."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request

from themisto.errors import NotFound, Refused
from themisto.types import Slug
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.serving.guard import recorded_refusals
from themisto_hub.control.tokens import GatewayToken
from themisto_hub.streams.token import STREAMS_KEY

__all__ = ["router"]

router = APIRouter(tags=["streams"])
InControl = Annotated[Control, Depends(get_control)]


def runner(request: Request, control: InControl, key: Annotated[str, Header(alias=STREAMS_KEY)] = "") -> Caller:
    """The streams' process, on this machine, not through the proxy. Raises NotFound, Refused (recorded)."""
    if "x-forwarded-for" in request.headers:
        raise NotFound("There is no such address here.", "Only the streams' own process asks for their tokens.")
    caller = Caller(name="streams", groups=(), scopes=frozenset(), request_id=request.state.request_id)
    expected = control.keys.streams
    with recorded_refusals(control, caller, "streams.token", request.url.path[:200]):
        if expected is None or not hmac.compare_digest(expected.get_secret_value().encode(), key.encode()):
            raise Refused("This is not the key of the streams.", "Only the streams' own process asks for their tokens.")
    return caller


@router.post("/streams/{name}/token")
def token(name: Slug, control: InControl, _: Annotated[Caller, Depends(runner)]) -> GatewayToken:
    """A ten-minute JWT of a machine that may call the stream's endpoint and nothing else."""
    stream = next((s for s in control.settings.streams if s.name == name), None)
    if stream is None:
        raise NotFound(f"There is no stream '{name}'.", "Declare it: THEMISTO_STREAMS.")
    return control.signer.token(f"stream:{name}", (), [], endpoints=(stream.endpoint,))
