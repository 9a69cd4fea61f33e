"""Routes that belong to no verb: discovery, who you are, tokens, profiles, budget, runs, health, audit, events."""

from __future__ import annotations

import concurrent.futures
from typing import Annotated

import httpx
from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import select

from themisto import __version__
from themisto.client import Discovery, GatewayAddress
from themisto.errors import Refused
from themisto.profiles import Profile
from themisto.types import Model, Number
from themisto_hub.control.audit import AuditEvent, AuditRow, Verdict
from themisto_hub.control.auth import Authorization, Caller, anyone, needs
from themisto_hub.control.context import Control, get_control
from themisto_hub.control.outbox.outbox import backlog
from themisto_hub.control.runs import RecentRun, recent_runs
from themisto_hub.control.tokens import GatewayToken
from themisto_hub.control.usage import BudgetLine, budget, profile_of, profiles_for

__all__ = ["Health", "WhoAmI", "public", "router"]

GATEWAY_SCOPES = ("infer", "features:read")
InControl = Annotated[Control, Depends(get_control)]
InCaller = Annotated[Caller, Depends(anyone)]

public = APIRouter(tags=["public"])
router = APIRouter(tags=["workbench"])


class WhoAmI(Model):
    """The caller, as the hub vouches for; `profile` is what the caller's server runs on."""

    name: str
    groups: list[str]
    scopes: list[str]
    profile: str | None = None


class Health(Model):
    """One service, asked now."""

    service: str
    state: str
    detail: str = ""


@public.get("/.well-known/themisto")
def discovery(control: InControl) -> Discovery:
    """Where gateway, tracking server and review page are. Public: it holds addresses only."""
    settings = control.settings
    return Discovery(
        version=__version__,
        gateway=GatewayAddress(http=settings.gateway_http, grpc=settings.gateway_grpc),
        tracking=settings.tracking_url,
        review=settings.review_url,
        isolation=settings.isolation,
        demo=settings.demo,
    )


@public.get("/healthz", response_class=PlainTextResponse)
def healthz(control: InControl) -> str:
    """200 once the database answers."""
    with control.db.read() as session:
        session.execute(select(1))
    return "ok"


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(_: InCaller, control: InControl) -> PlainTextResponse:
    """Prometheus metrics of the control plane and its process."""
    return PlainTextResponse(control.metrics.exposition() + generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/whoami")
def whoami(caller: InCaller, control: InControl) -> WhoAmI:
    """Who the token belongs to."""
    return WhoAmI(
        name=caller.name,
        groups=list(caller.groups),
        scopes=sorted(caller.scopes),
        profile=None if caller.server is None else profile_of(control, caller.name, caller.server),
    )


@router.post("/tokens")
def exchange(caller: InCaller, control: InControl) -> GatewayToken:
    """A ten-minute JWT for the gateway, in exchange for the hub's token."""
    scopes = [s for s in GATEWAY_SCOPES if s in caller.scopes]
    if not scopes:
        raise Refused(f"{caller.name} may neither predict nor read features.", "Ask for the scope infer.")
    return control.signer.token(caller.name, caller.groups, scopes)


@router.get("/profiles")
def profiles(caller: InCaller, control: InControl) -> list[Profile]:
    """The profiles the caller may use."""
    return profiles_for(control, caller.groups)


@router.get("/budget")
def month(caller: InCaller, control: InControl) -> list[BudgetLine]:
    """What the caller's groups used this month."""
    return budget(control, caller.groups)


@router.get("/runs")
def runs(
    caller: InCaller,
    control: InControl,
    authorization: Authorization = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> list[RecentRun]:
    """The newest runs of the caller's groups."""
    return recent_runs(control.settings, (authorization or "").partition(" ")[2].strip(), caller.groups, limit)


@router.get("/health")
def health(_: InCaller, control: InControl) -> list[Health]:
    """Whether each service answers, asked now."""
    ports = control.settings.ports
    urls = {
        "hub": f"{control.settings.hub_api}/",
        "identity provider": f"{control.settings.issuer}/.well-known/openid-configuration",
        "tracking": f"http://127.0.0.1:{ports.tracking}/services/tracking/health",
        "gateway": f"http://127.0.0.1:{ports.envoy_admin}/ready",
        "transformer": f"http://127.0.0.1:{ports.transformer_http}/healthz",
        "triton dev": f"http://127.0.0.1:{ports.triton['dev'][0]}/v2/health/ready",
        "triton prod": f"http://127.0.0.1:{ports.triton['prod'][0]}/v2/health/ready",
    }
    with concurrent.futures.ThreadPoolExecutor(len(urls)) as pool:
        asked = pool.map(_ask, urls.items())
    return [*asked, Health(service="control plane", state="up"), _events(control)]


def _events(control: Control) -> Health:
    with control.db.read() as session:
        state = backlog(session, control.clock())
    return Health(service="events", state="down" if state.failed else "up", detail=state.problem)


def _ask(service: tuple[str, str]) -> Health:
    name, url = service
    try:
        response = httpx.get(url, timeout=2)
    except httpx.TransportError as error:
        return Health(service=name, state="down", detail=type(error).__name__)
    if response.status_code >= 500:
        return Health(service=name, state="down", detail=f"HTTP {response.status_code}")
    return Health(service=name, state="up")


@router.get("/audit")
def audit(
    caller: Annotated[Caller, Depends(needs("audit"))],
    control: InControl,
    object: Annotated[str | None, Query(max_length=300)] = None,
    after: Number = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditEvent]:
    """Links of the chain after number `after`; reading them is one too."""
    query = select(AuditRow).where(AuditRow.number > after).order_by(AuditRow.number).limit(limit)
    if object is not None:
        query = query.where(AuditRow.object == object)
    with control.db.write() as session:
        rows = session.scalars(query).all()
        events = [
            AuditEvent(
                number=r.number,
                at=r.at,
                actor=r.actor,
                action=r.action,
                object=r.object,
                outcome=r.outcome,
                group=r.group_name,
                before=r.before,
                after=r.after,
                request_id=r.request_id,
                hash=r.hash,
            )
            for r in rows
        ]
        control.audit.append(
            session,
            actor=caller.name,
            action="audit.export",
            object=object or "audit",
            after={"from": after, "events": len(events)},
            request_id=caller.request_id,
        )
    return events


@router.get("/audit/verify")
def verify(caller: Annotated[Caller, Depends(needs("audit"))], control: InControl) -> Verdict:
    """Whether the chain holds, link by link and against its signed heads."""
    del caller
    with control.db.read() as session:
        return control.audit.verify(session)


@router.get("/events")
async def events(caller: InCaller, control: InControl) -> StreamingResponse:
    """Server-sent events of the caller's groups."""
    stream = control.events.listen(frozenset(caller.groups))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
