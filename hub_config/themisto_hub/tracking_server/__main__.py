"""`python -m themisto_hub.tracking_server`: MLflow behind the hub's identities, in the foreground."""

from __future__ import annotations

import logging
import sys

import uvicorn
from starlette.types import ASGIApp

from themisto_hub.settings import Deployment, Keys
from themisto_hub.tracking_server.browser import BrowserLogin
from themisto_hub.tracking_server.door import PREFIX, Door
from themisto_hub.tracking_server.identity import Identities
from themisto_hub.tracking_server.members import Members
from themisto_hub.tracking_server.mlflow_app import create_mlflow


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("httpx", "alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    settings = Deployment()
    uvicorn.run(
        create_app(settings, Keys()),
        host="127.0.0.1",
        port=settings.ports.tracking,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=3,
        forwarded_allow_ips="127.0.0.1",
    )
    return 0


def create_app(settings: Deployment, keys: Keys) -> ASGIApp:
    """MLflow with the door in front of it."""
    secret = keys.hub_tracking.get_secret_value() if keys.hub_tracking else None
    browser = BrowserLogin(public=settings.public, hub_api=settings.hub_api, prefix=PREFIX, client_secret=secret)
    return Door(create_mlflow(settings), Identities(settings.hub_api), Members(settings.admin_groups), browser)


if __name__ == "__main__":
    sys.exit(main())
