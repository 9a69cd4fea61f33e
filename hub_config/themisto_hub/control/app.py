"""The control plane's web application: routers of all rooms, workers for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from themisto import __version__
from themisto.types import new_ulid
from themisto_hub.cluster.api import router as cluster
from themisto_hub.control import api, problems, usage
from themisto_hub.control.context import Control
from themisto_hub.control.features import worker as features_worker
from themisto_hub.control.features.api import router as features
from themisto_hub.control.features.stream_api import router as feature_streams
from themisto_hub.control.gates.api import router as gates
from themisto_hub.control.idempotency import Idempotency
from themisto_hub.control.outbox import worker as outbox_worker
from themisto_hub.control.schedules import worker as schedules_worker
from themisto_hub.control.schedules.api import router as schedules
from themisto_hub.control.serving import worker as serving_worker
from themisto_hub.control.serving.api import router as serving
from themisto_hub.control.serving.observing_api import router as observing
from themisto_hub.control.tracing import Traced
from themisto_hub.streams.api import router as streams

__all__ = ["PREFIX", "create_app"]

PREFIX = "/services/themisto"
Worker = Callable[[Control], Awaitable[None]]
_WORKERS: tuple[Worker, ...] = (
    usage.run,
    features_worker.run,
    serving_worker.run,
    schedules_worker.run,
    outbox_worker.run,
)
_log = logging.getLogger(__name__)


def create_app(control: Control, *, workers: tuple[Worker, ...] = _WORKERS) -> FastAPI:
    """The ASGI application; `workers` run while it does and are cancelled with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(control.db.migrate)
        control.events.bind(asyncio.get_running_loop())
        tasks = [asyncio.create_task(_kept_alive(worker, control)) for worker in workers]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        control.close()

    app = FastAPI(
        title="themisto control plane",
        version=__version__,
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: f"{(route.tags or ['api'])[0]}_{route.name}",
    )
    app.state.control = control
    app.include_router(api.public, prefix=PREFIX)
    for router in (api.router, serving, observing, gates, features, schedules, cluster, streams, feature_streams):
        app.include_router(router, prefix=f"{PREFIX}/api/v1")
    problems.install(app)
    openapi = app.openapi
    app.openapi = lambda: app.openapi_schema or problems.document(openapi())  # type: ignore[method-assign] # FastAPI's own way
    app.add_middleware(Idempotency, control=control)

    @app.middleware("http")
    async def _request_id(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.request_id = new_ulid()
        response = await call_next(request)
        response.headers["x-request-id"] = request.state.request_id
        return response

    app.add_middleware(Traced)
    return app


async def _kept_alive(worker: Worker, control: Control) -> None:
    """Run a worker; one that fails is logged and started again after a pause."""
    while True:
        try:
            await worker(control)
            return
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever it was, the platform must go on
            _log.exception("worker %s failed; it starts again in 5 s", worker.__module__)
            await asyncio.sleep(5)
