"""`themisto doctor`: what is well on this machine and what is not, and whether the audit chain holds."""

from __future__ import annotations

from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url

from themisto.errors import Invalid, ThemistoError, Unavailable
from themisto.types import utcnow
from themisto_hub.control.audit import verify_copy
from themisto_hub.control.db import Database
from themisto_hub.control.features.offline import offline_store
from themisto_hub.control.outbox.outbox import backlog
from themisto_hub.control.outbox.target import configured
from themisto_hub.gateway.predictions import losses
from themisto_hub.settings import Deployment
from themisto_hub.streams.metrics import StreamState
from themisto_hub.supervisor import namespace
from themisto_hub.supervisor.lock import holder, running

__all__ = ["doctor"]


def doctor(settings: Deployment, *, audit: bool = False, database: str | None = None) -> int:
    """Print the findings; 0 if all is well, 1 if something is not."""
    return _audit(settings, database) if audit or database else _services(settings)


def _audit(settings: Deployment, database: str | None) -> int:
    verdict = verify_copy(database or settings.database_url, settings.folder("control") / "audit", utcnow)
    if verdict.intact:
        print(f"the audit chain holds: {verdict.events} events, head {verdict.head[:16]}")
        return 0
    print(f"the audit chain is broken at link {verdict.broken_at}: {verdict.reason}")
    return 1


def _services(settings: Deployment) -> int:
    ports = settings.ports
    loopback = "http://127.0.0.1"
    asked = {
        "hub": f"{settings.public}/hub/health",
        "identity provider": f"{settings.issuer}/.well-known/openid-configuration",
        "control plane": f"{loopback}:{ports.control}/services/themisto/healthz",
        "tracking": f"{loopback}:{ports.tracking}/services/tracking/health",
        "gateway": f"{loopback}:{ports.envoy_admin}/ready",
        "transformer": f"{loopback}:{ports.transformer_http}/healthz",
        "triton dev": f"{loopback}:{ports.triton['dev'][0]}/v2/health/ready",
        "triton prod": f"{loopback}:{ports.triton['prod'][0]}/v2/health/ready",
    }
    table = Table("service", "state")
    well = True
    for name, url in asked.items():
        up = _answers(url)
        well = well and up
        table.add_row(name, "up" if up else "down")
    state = settings.state.absolute()
    found, pid = running(state), holder(state)
    table.add_row("supervisor", f"process {pid}" if pid else f"not running on {state}")
    reason = found.no_isolation if found else namespace.can_isolate()
    lost = losses(settings.folder("gateway") / "predictions")
    table.add_row("prediction log", str(lost))
    table.add_row("isolation", f"none, limits advisory: {reason}" if reason else "own uid, mounts and limits")
    streams, flowing = _streams(declared=bool(settings.streams), port=settings.ports.streams)
    table.add_row("streams", streams)
    topics, read = _streams(declared=bool(settings.feature_topics), port=settings.ports.feature_streams)
    table.add_row("topics into views", topics)
    rows, kept = _offline(settings)
    table.add_row("offline store", rows)
    told, delivered = _events(settings)
    table.add_row("events", told)
    Console().print(table)
    return 0 if well and delivered and flowing and read and kept else 1


def _streams(*, declared: bool, port: int) -> tuple[str, bool]:
    """How each stream does, as their process tells."""
    if not declared:
        return "none declared", True
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=3, trust_env=False)
        states = [StreamState.model_validate(one) for one in answer.json()]
    except (httpx.HTTPError, ValueError):
        return "down", False
    return "; ".join(map(str, states)) or "none yet", not any(state.problem for state in states)


def _offline(settings: Deployment) -> tuple[str, bool]:
    """Whether the store of rows answers, asked with this environment's credentials as the control plane asks."""
    try:
        store = offline_store(settings)
        store.check()
    except ThemistoError as error:
        return str(error), False
    return store.where, True


def _events(settings: Deployment) -> tuple[str, bool]:
    """How the outbox does, read from the database: that is of use while the control plane is down, too."""
    file = make_url(settings.database_url).database
    database = Database(settings.database_url)
    try:
        where = ", ".join(target.title for target in configured()) or "sent nowhere"
        if database.is_sqlite and not (file and Path(file).exists()):
            return f"{where}; no database yet", True
        with database.read() as session:
            state = backlog(session, utcnow())
    except Invalid as error:
        return str(error), False
    except Unavailable:
        return "cannot be looked at: the database does not answer", True  # the control plane's own line says more
    finally:
        database.close()
    failed = f"; {state.failed} given up in the last day: {state.problem}" if state.failed else ""
    return f"{where}; {state.waiting} waiting{failed}", not state.failed


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=3, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False
