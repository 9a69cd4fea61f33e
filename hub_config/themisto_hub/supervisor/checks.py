"""What must hold before anything is started: whose state it is, room on the disk, free ports."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import psutil

from themisto.errors import Failed, Refused, Unavailable
from themisto_hub.settings import Deployment

__all__ = ["check_disk", "check_owner", "check_ports"]

_NEEDED_FREE_BYTES = 2 * 2**30


def check_owner(state: Path) -> None:
    """Refused if the state is another user's: half of it could not be read, the rest would change hands."""
    owner = state.stat().st_uid
    if owner != os.geteuid():
        raise Refused(
            f"The state in {state} belongs to another user (uid {owner}).",
            "Start as that user, or keep a state of your own: THEMISTO_STATE=/path/to/folder make up.",
        )


def check_disk(state: Path) -> None:
    """Failed if there is too little room to work in."""
    free = shutil.disk_usage(state).free
    if free < _NEEDED_FREE_BYTES:
        raise Failed(f"Only {free / 2**30:.1f} GiB are free below {state}; 2 GiB are needed.", "Free some space.")


def check_ports(settings: Deployment) -> None:
    """Unavailable if another program listens where one of ours has to."""
    taken = [port for port in settings.ports.all if not _free(port)]
    if taken:
        others = _programs(taken)
        raise Unavailable(
            f"{_named(taken)} in use by {others or 'another program'}.",
            f"Stop it, or choose other ports: THEMISTO_PORT={settings.port + 100} make up.",
        )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _named(ports: list[int]) -> str:
    if len(ports) == 1:
        return f"Port {ports[0]} is"
    if ports == list(range(ports[0], ports[-1] + 1)):
        return f"Ports {ports[0]} to {ports[-1]} are"
    return f"Ports {', '.join(map(str, ports))} are"


def _programs(ports: list[int]) -> str:
    """Who listens there, as far as we may know it."""
    found = set()
    try:
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port in ports and one.pid is not None:
                found.add(f"{psutil.Process(one.pid).name()} (process {one.pid})")
    except psutil.Error:
        return ""
    return ", ".join(sorted(found)[:3])
