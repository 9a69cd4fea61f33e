"""Pool: Tritons for code that people deploy, one a group and tier, apart from all others.

A deployed function is somebody's code. It runs under a uid of its own, in a network namespace that
has no way out, sees no other process, and is reached only through two sockets that the gateway and
the control plane may open. Not started by root it runs the same, without those walls.

The control plane says which are wanted by files (`want`, `drop`); `run` starts, restarts and stops.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from themisto.errors import Failed, Unavailable
from themisto.types import Model, Slug
from themisto_hub.model_server import environments
from themisto_hub.model_server.client import TritonClient
from themisto_hub.model_server.member import Layout, Member, walled
from themisto_hub.model_server.unused import Unused
from themisto_hub.settings import Deployment, Keys

__all__ = ["address", "client", "drop", "run", "want"]

Tier = Literal["dev", "prod", "bench"]
"""`bench` measures: no caller is led there."""

_FIRST_UID = 695_000
_MAX_MEMBERS = 200
_PAUSE_S = 0.25
_MAX_BACKOFF_S = 30.0
_STEADY_S = 30.0
_READY_S = 30.0
_MAX_SOCKET = 107
"""Characters of a socket's path: Linux, unix(7)."""
_log = logging.getLogger(__name__)


class Wanted(Model):
    """One group's Triton of one tier."""

    group: Slug
    tier: Tier

    @property
    def name(self) -> str:
        return f"{self.group}-{self.tier}"


# The control plane's side.


def want(settings: Deployment, group: str, tier: Tier) -> None:
    """Have a Triton for the group's code kept running."""
    wanted = Wanted(group=group, tier=tier)
    file = _wish(settings, wanted)
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(wanted.model_dump_json())
    draft.replace(file)


def drop(settings: Deployment, group: str, tier: Tier) -> None:
    """The group's Triton is needed no more."""
    _wish(settings, Wanted(group=group, tier=tier)).unlink(missing_ok=True)


def address(settings: Deployment, group: str, tier: Tier) -> tuple[str, str]:
    """Where it answers, HTTP and gRPC: `unix:/…`, as routes and `TritonClient` take it."""
    folder = settings.folder("pool-state") / Wanted(group=group, tier=tier).name
    return f"unix:{folder / 'http.sock'}", f"unix:{folder / 'grpc.sock'}"


def client(settings: Deployment, keys: Keys, group: str, tier: Tier, *, wait_s: float = _READY_S) -> TritonClient:
    """A client of the group's Triton, which is started if it is not there.

    Raises Unavailable when it does not answer within `wait_s`, Failed where its socket's path is too long.
    """
    socket = address(settings, group, tier)[0].removeprefix("unix:")
    if len(socket) > _MAX_SOCKET:
        raise Failed(
            f"The model server of '{group}' cannot be reached: its socket's path has {len(socket)} characters.",
            f"It may have {_MAX_SOCKET}: keep the workbench's state in a folder with a shorter path.",
        )
    want(settings, group, tier)
    found = TritonClient(address(settings, group, tier)[0], _key(keys, Wanted(group=group, tier=tier)))
    deadline = time.monotonic() + wait_s
    while not found.ready():
        if time.monotonic() > deadline:
            found.close()
            raise Unavailable(
                f"The model server for the code of '{group}' ({tier}) does not come up.",
                "See the log of the process 'pool'; try again in a moment.",
            )
        time.sleep(0.1)
    return found


# The pool's own side.


def run(settings: Deployment, keys: Keys) -> None:
    """Keep what is wanted until SIGTERM; its end, however it comes, is the members' end too."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    base = settings.folder("pool-state")
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o711)  # the gateway passes through to the sockets
    if not walled():
        _log.warning("no isolation here: deployed code runs without walls, in one trust domain with everything else")
    pool, packer = _Pool(settings, keys), environments.Packer(settings, apart=walled())
    unused = Unused(settings)
    try:
        while not stop.wait(_PAUSE_S):
            pool.step()
            unused.step(_PAUSE_S)  # before the packer: what it deletes and is wished for is packed anew
            packer.step(_PAUSE_S)
    finally:
        packer.stop()
        pool.stop()


class _Pool:
    def __init__(self, settings: Deployment, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys
        self._members: dict[str, Member] = {}
        self._again: dict[str, tuple[float, float]] = {}

    def step(self) -> None:
        """Start what is missing, after a pause that grows; end what is unwanted."""
        wanted = self._wanted()
        for name in [n for n in self._members if n not in wanted]:
            _log.info("%s is not needed any more", name)
            self._members.pop(name).stop()
        for name, one in wanted.items():
            member = self._members.get(name)
            if member is not None and member.running:
                continue
            if member is not None:
                self._ended(name, self._members.pop(name))
            if time.monotonic() >= self._again.get(name, (0.0, 0.0))[0]:
                self._members[name] = Member(self._layout(one))
                _log.info("%s started", name)

    def stop(self) -> None:
        for member in self._members.values():
            member.close()
        for member in self._members.values():
            member.stop()

    def _ended(self, name: str, member: Member) -> None:
        member.stop()
        pause = 0.5 if member.lived_s > _STEADY_S else min(2 * self._again.get(name, (0.0, 0.25))[1], _MAX_BACKOFF_S)
        self._again[name] = (time.monotonic() + pause, pause)
        _log.warning("%s ended after %.1f s; it starts again in %.1f s", name, member.lived_s, pause)

    def _wanted(self) -> dict[str, Wanted]:
        found = {}
        for file in sorted(self._settings.folder("pool").glob("*.json"))[:_MAX_MEMBERS]:
            try:
                wanted = Wanted.model_validate_json(file.read_text())
            except (OSError, ValidationError) as error:
                _log.error("%s is not read: %s", file.name, error)
                continue
            if file.stem == wanted.name:
                found[wanted.name] = wanted
        return found

    def _layout(self, wanted: Wanted) -> Layout:
        folder = self._settings.folder("pool-state") / wanted.name
        root = walled()
        uid = self._uid(wanted.name) if root else os.geteuid()
        gid = self._settings.folder("gateway").stat().st_gid if root else os.getegid()
        return Layout(
            name=wanted.name,
            folder=folder,
            key=_key(self._keys, wanted),
            uid=uid,
            environments=environments.folder(self._settings),
            sockets_gid=gid,
        )

    def _uid(self, name: str) -> int:
        """A uid that stays the member's for ever: what it has written is never another's."""
        file = self._settings.folder("pool-state") / "uids.json"
        uids: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        if name not in uids:
            uids[name] = max(uids.values(), default=_FIRST_UID) + 1
            draft = file.with_suffix(".new")
            draft.write_text(json.dumps(uids))
            draft.replace(file)
        return uids[name]


def _wish(settings: Deployment, wanted: Wanted) -> Path:
    return settings.folder("pool") / f"{wanted.name}.json"


def _key(keys: Keys, wanted: Wanted) -> str:
    """The load API's key of one member, made from the tier's: who learns it has learnt nothing else."""
    tier = keys.triton_prod if wanted.tier == "prod" else keys.triton_dev
    secret = tier.get_secret_value() if tier else ""
    return hmac.new(secret.encode(), f"pool/{wanted.name}".encode(), hashlib.sha256).hexdigest()
