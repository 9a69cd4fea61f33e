"""`python -m themisto_hub.control`: the control plane and its review page, one process, two origins.

`python -m themisto_hub.control openapi` prints the API's OpenAPI document.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from themisto import spans
from themisto.errors import Invalid
from themisto_hub.control.app import create_app
from themisto_hub.control.context import Control
from themisto_hub.control.features.offline import offline_store
from themisto_hub.control.outbox.target import configured
from themisto_hub.control.review import create_review_app
from themisto_hub.settings import Deployment, Keys


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        control = Control(Deployment(), Keys(), targets=configured())
        offline_store(control.settings)
    except Invalid as error:
        sys.stderr.write(f"control plane: {error}\n")
        return 1
    if sys.argv[1:] == ["openapi"]:
        json.dump(create_app(control).openapi(), sys.stdout, indent=1, sort_keys=True)
        return 0
    spans.start("control", control.settings)
    asyncio.run(_serve(control))
    return 0


async def _serve(control: Control) -> None:
    ports = control.settings.ports
    api = _server(create_app(control), "127.0.0.1", ports.control)
    review = _server(create_review_app(control), "localhost", ports.review)

    def stop() -> None:
        api.should_exit = review.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await asyncio.gather(api.serve(), review.serve())


class _Server(uvicorn.Server):
    """Leaves signals to `_serve`, which stops both."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=3,
        forwarded_allow_ips="127.0.0.1",
        server_header=False,
    )
    return _Server(config)


if __name__ == "__main__":
    sys.exit(main())
