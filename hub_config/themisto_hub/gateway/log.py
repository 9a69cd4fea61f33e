"""`python -m themisto_hub.gateway log`: the prediction log's writer, off the request's path."""

from __future__ import annotations

import logging
import os
import signal
import threading
from datetime import timedelta

from themisto_hub.gateway.bootstrap import GatewaySettings
from themisto_hub.gateway.personal import DECLARED, Veil
from themisto_hub.gateway.tail import FOLDER, Tail
from themisto_hub.settings import Deployment, Keys

__all__ = ["FOLDER", "Tail", "main"]


def main() -> int:
    """Tail until SIGTERM; what was read is written before it ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    os.umask(0o027)  # the control plane reads the Parquet files as a member of the gateway's group
    limits = GatewaySettings()
    settings, keys = Deployment(), Keys()
    tail = Tail(
        settings.folder("gateway"),
        limits.rotate_bytes,
        timedelta(days=limits.keep_days),
        rotate_s=limits.rotate_s,
        backlog_bytes=limits.backlog_bytes,
        veil=Veil(keys.log_hash, keys.log_encrypt),
        declared=settings.xds / DECLARED,
    )
    tail.run(stop)
    return 0
