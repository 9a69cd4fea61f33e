"""Taken: whether Envoy works with the clusters and the routes that it was given.

Envoy reads its files one by one and in no set order: of two that change at once it may take the routes
first, and answers 503 until the clusters follow. And whoever is told that traffic has moved may ask at once.
"""

from __future__ import annotations

import logging
import re
import time

import httpx

__all__ = ["WATCHED", "version_taken", "wait_until_taken"]

WATCHED = ("cds.json", "rds.json")
"""Files whose `version_info` Envoy's statistics show, as a number, once it works with them."""

_METRICS = {"cds.json": "cluster_manager_cds_version", "rds.json": "http_rds_version"}
_PAGE = "/stats/prometheus?filter=(^cluster_manager\\.cds|\\.rds\\..*)\\.version$"
_WITHIN_S = 5.0
_PAUSE_S = 0.02
_log = logging.getLogger(__name__)


def version_taken(status_url: str, file: str) -> str | None:
    """The version that Envoy works with; None where it does not answer: then it reads the files at its start."""
    try:
        answer = httpx.get(f"{status_url}{_PAGE}", timeout=1.0, trust_env=False)
    except httpx.TransportError:
        return None
    found = re.search(rf"^envoy_{_METRICS[file]}\S* (\S+)$", answer.text, re.MULTILINE)
    return found[1] if found else None


def wait_until_taken(status_url: str, file: str, before: str) -> None:
    """Wait until the version is another than `before`; some seconds at most, so that a stuck Envoy stops nobody."""
    until = time.monotonic() + _WITHIN_S
    while time.monotonic() < until:
        if version_taken(status_url, file) != before:
            return
        time.sleep(_PAUSE_S)
    _log.warning("Envoy has not taken the new %s within %.0f s; it goes on all the same", file, _WITHIN_S)
