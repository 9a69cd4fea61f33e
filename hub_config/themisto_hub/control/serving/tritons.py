"""Tritons: which model server serves a release. One a tier for ONNX; one a group and tier for code.

An author's code never runs in a tier's Triton, nor under the control plane's uid: the pool runs it
apart (`themisto_hub.model_server.pool`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

from sqlalchemy import select

from themisto.errors import Unavailable
from themisto.serving.models import Release, Tier
from themisto_hub.control.context import Control
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.asked import Asked
from themisto_hub.control.serving.goldens import replay
from themisto_hub.control.serving.progress import Live
from themisto_hub.control.serving.tables import EndpointRow, ReleaseRow
from themisto_hub.control.serving.triton import Triton
from themisto_hub.model_server import environments, pool
from themisto_hub.model_server.client import TritonClient
from themisto_hub.model_server.infer_key import tier_key

__all__ = ["Tritons"]

_IDLE_S = 300.0
_MOVE_S = 45.0
_PAUSE_S = 0.25

Place = tuple[str, Tier]
"""Group and tier: where code runs."""


class Tritons:
    """The model servers of this workbench."""

    def __init__(self, control: Control, artifacts: ArtifactStore, now: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._keys, self._db = control.settings, control.keys, control.db
        self._artifacts = artifacts
        self._now = now
        self._asked = Asked(control)
        self._lock = threading.RLock()  # over wishing for a group's Triton, and over letting it go
        self._pools: dict[Place, Triton] = {}
        self._needed: dict[Place, float] = {}
        keys: tuple[tuple[Tier, Any], ...] = (("dev", self._keys.triton_dev), ("prod", self._keys.triton_prod))
        self._tiers = {tier: self._tier(tier, key.get_secret_value() if key else "") for tier, key in keys}

    def _tier(self, tier: Tier, key: str) -> Triton:
        http, _, _ = self._settings.ports.triton[tier]
        infer = tier_key(self._keys, tier)
        client = TritonClient(f"http://127.0.0.1:{http}", key, infer.get_secret_value() if infer else "")
        return Triton(client, self._artifacts, self._now, asked=self._asked)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        return tuple(self._tiers)

    def address(self, release: Release) -> tuple[str, str]:
        """Where the release answers, HTTP and gRPC, as a route names it; it need not be up."""
        if release.artifact.is_code:
            return pool.address(self._settings, self._owner(release), release.tier)
        http, grpc, _ = self._settings.ports.triton[release.tier]
        return f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"

    def of(self, release: Release) -> Triton:
        """Where the release runs once it may. Raises Unavailable while a group's own is starting."""
        if release.artifact.is_code:
            return self._pool((self._owner(release), release.tier))
        return self._tiers[release.tier]

    def keep(self, tier: Tier, live: Collection[Live]) -> None:
        """Bring the tier's Triton to the desired state. Raises Unavailable."""
        self._tiers[tier].keep([one for one in live if one.tier == tier and not one.release.artifact.is_code])

    def keep_pools(self, live: Collection[Live], groups: Iterable[str]) -> None:
        """Bring every group's own Tritons to the desired state, and let those go that nothing needs for minutes.

        groups: all that own endpoints. Raises Unavailable after all were tried, if one does not answer.
        """
        code: dict[Place, list[Live]] = {place: [] for place in self._pools}
        for one in live:
            if one.release.artifact.is_code:
                code.setdefault((self._owner(one.release), one.tier), []).append(one)
        problem: Unavailable | None = None
        for place, theirs in code.items():
            try:
                if theirs or self._in_use(place):
                    self._pool(place, needed=bool(theirs)).keep(theirs)
            except Unavailable as error:
                problem = error
        for place in {*code, *((group, tier) for group in groups for tier in self.tiers)}:
            with self._lock:
                if not self._in_use(place):
                    pool.drop(self._settings, *place)
        if problem is not None:
            raise problem

    def move(self, releases: Collection[Release], group: str) -> None:
        """Have code loaded and answering in the Triton of a group that is about to own it, too.

        Raises Unavailable where that does not come up, Failed where it does not run there.
        """
        deadline = self._now() + _MOVE_S
        for release in (
            *releases,
            *releases,
        ):  # at the end all have answered a moment ago, and are kept for some seconds
            while True:
                try:
                    self._pool((group, release.tier)).ensure(release)
                    break
                except Unavailable:
                    if self._now() > deadline:
                        raise
                    time.sleep(_PAUSE_S)

    def _owner(self, release: Release) -> str:
        """The group whose name it answers under now: a transfer leaves what was released as it is."""
        query = select(EndpointRow.group_name).join(ReleaseRow, ReleaseRow.endpoint == EndpointRow.name)
        with self._db.read() as session:
            found = session.scalar(query.where(ReleaseRow.id == release.id))
        return found or release.group

    def prove_apart(self, release: Release) -> str:
        """Repeat the goldens of code in its group's dev Triton, not in the author's kernel; what was found.

        Raises ParityError, Failed, Unavailable. Nothing stays loaded.
        """
        triton = self._pool((self._owner(release), "dev"))
        with triton.borrowed(release):
            rows = replay(release, lambda inputs: triton.infer(release, inputs))
        return f"A model server apart repeated {rows} golden answers from the stored artifact."

    def answer_apart(self, release: Release, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """What code answers to each batch in its group's dev Triton, in order. Raises Failed, Unavailable.

        A dev release stays loaded: it may be the one that carries traffic there.
        """
        triton = self._pool((self._owner(release), "dev"))
        with nullcontext() if release.tier == "dev" else triton.borrowed(release):
            triton.ensure(release)
            for batch in batches:
                yield triton.infer(release, batch)

    def _pool(self, place: Place, *, needed: bool = True) -> Triton:
        with self._lock:
            if needed:
                self._needed[place] = self._now()
            found = self._pools.get(place)
            if found is None:
                client = pool.client(self._settings, self._keys, *place, wait_s=0.0)
                require = partial(environments.require, self._settings)
                found = self._pools[place] = Triton(
                    client, self._artifacts, self._now, asked=self._asked, require=require
                )
        return found

    def _in_use(self, place: Place) -> bool:
        found = self._pools.get(place)
        if found is not None and found.busy:
            self._needed[place] = self._now()
        recent = self._now() - self._needed.get(place, -_IDLE_S) < _IDLE_S
        if found is not None and not recent:
            with self._lock:
                self._pools.pop(place, None)
        return recent
