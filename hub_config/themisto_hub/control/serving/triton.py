"""Triton: one model server, what of ours it holds, and whether that truly answers."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from themisto.errors import Failed, ThemistoError, Unavailable
from themisto.serving.models import Release, triton_name
from themisto.serving.names import ENDPOINT_PATTERN
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.goldens import first_row
from themisto_hub.control.serving.progress import Live
from themisto_hub.model_server import repository
from themisto_hub.model_server.client import TritonClient

__all__ = ["Triton"]

_log = logging.getLogger(__name__)
_OURS = re.compile(rf"^((?:rule\.)?{ENDPOINT_PATTERN}--[1-9][0-9]*)(\..+)?$")
"""A release, `credit.v2--7`, its rule, `rule.credit--7`, or after another dot a part of either's chain."""
_PROBE_EVERY_S = 5.0
_UNLOAD_AFTER_S = 5.0
_MAX_PAUSE_S = 60.0
_NOT_ON_DISK = "failed to poll from model repository"


class Triton:
    """One model server and what of ours it holds.

    Its own word READY is not believed: a model whose backend was killed says so for ever. A real
    inference decides, and a model that fails it is loaded anew.
    """

    def __init__(
        self,
        client: TritonClient,
        artifacts: ArtifactStore,
        now: Callable[[], float],
        *,
        asked: Callable[[Collection[str]], Mapping[str, int]] = lambda _: {},
        require: Callable[[bytes], None] | None = None,
    ) -> None:
        """asked: how often each of some endpoints was asked lately.

        require: has an environment packed, by its requirements; raises Unavailable until it is.
        """
        self._client = client
        self._require = require
        self._artifacts = artifacts
        self._now = now
        self._asked = asked
        self._lock = threading.Lock()
        self._answered: dict[str, float] = {}
        self._unwanted: dict[str, float] = {}
        self._paused: dict[str, tuple[float, float]] = {}
        self._borrowed: Counter[str] = Counter()

    @property
    def busy(self) -> bool:
        """Something is borrowed right now."""
        return bool(+self._borrowed)

    @contextmanager
    def borrowed(self, release: Release) -> Iterator[None]:
        """The release loaded and answering for the length of the block, and gone afterwards."""
        name = triton_name(release.endpoint, release.number)
        self._borrowed[name] += 1
        try:
            self.ensure(release)
            yield
        finally:
            self._borrowed[name] -= 1
            with suppress(ThemistoError), self._lock:
                self._answered.pop(name, None)
                self._client.unload(name)

    def ensure(self, release: Release) -> None:
        """Have the release loaded and answering. Raises Unavailable, or Failed with Triton's cause."""
        name = triton_name(release.endpoint, release.number)
        with self._lock:
            self._ensure(name, release)

    def infer(self, release: Release, inputs: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """One real inference, over the wire."""
        name = triton_name(release.endpoint, release.number)
        return self._client.infer(name, inputs, release.signature)

    def keep(self, wanted: Collection[Live]) -> None:
        """Load what is missing, prove what carries traffic, unload what nobody needs any more.

        Where several are missing, as after a restart, what carries traffic comes first, and of that the
        endpoints that were asked most. Raises Unavailable when this Triton does not answer at all; one
        bad model does not stop the others.
        """
        index = self._client.index()
        names = {triton_name(live.release.endpoint, live.release.number): live for live in wanted}
        care = [n for n, live in names.items() if not live.arriving and self._needs_care(n, live, index)]
        for name in self._in_order(care, names, index):
            self._care_for(name, names[name].release)
        held = {ours[1] for name, state in index.items() if state == "READY" and (ours := _OURS.match(name))}
        self._unload_leftovers(held - set(names) - set(+self._borrowed))

    def _in_order(self, care: list[str], names: Mapping[str, Live], index: Mapping[str, str]) -> list[str]:
        if sum(index.get(name) != "READY" for name in care) < 2:
            return care
        asked = self._asked({names[name].release.endpoint for name in care})
        return sorted(care, key=lambda n: (not names[n].carries_traffic, -asked.get(names[n].release.endpoint, 0)))

    def _needs_care(self, name: str, live: Live, index: Mapping[str, str]) -> bool:
        until, _ = self._paused.get(name, (0.0, 0.0))
        if self._now() < until:
            return False
        if index.get(name) != "READY" or name not in self._answered:
            return True
        return live.carries_traffic and self._now() - self._answered[name] > _PROBE_EVERY_S

    def _care_for(self, name: str, release: Release) -> None:
        try:
            with self._lock:
                self._ensure(name, release)
            self._paused.pop(name, None)
        except Unavailable:
            raise
        except ThemistoError as error:
            pause = min(2 * self._paused.get(name, (0.0, 0.5))[1], _MAX_PAUSE_S)
            self._paused[name] = (self._now() + pause, pause)
            _log.error("%s does not answer and is tried again in %.0f s: %s", name, pause, error)

    def _ensure(self, name: str, release: Release) -> None:
        self._unwanted.pop(name, None)
        if self._client.index().get(name) == "READY":
            try:
                self._prove(name, release)
            except Unavailable:
                raise
            except ThemistoError as error:
                _log.warning("%s says READY and does not answer (%s): loading it anew", name, error)
                self._client.unload(name)
            else:
                return
        artifact = self._artifacts.read(release.artifact.sha256)
        kind = release.artifact.kind
        for requirements in repository.requirements(kind, artifact):
            if self._require is not None:
                self._require(requirements)
        for model in repository.models(name, kind, artifact, release.signature, release.serving):
            self._load(*model)
        self._prove(name, release)
        _log.info("%s is loaded and answers", name)

    def _load(self, name: str, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Triton looks for an ensemble's parts on its disk too, after it has loaded it, and says so as a failure.

        Parts that are loaded from memory are not there. Whether the ensemble answers is proved next.
        """
        try:
            self._client.load(name, config, files)
        except Failed as error:
            if config.get("platform") != "ensemble" or _NOT_ON_DISK not in error.detail:
                raise

    def _prove(self, name: str, release: Release) -> None:
        self._answered.pop(name, None)
        self._client.infer(name, first_row(release.golden), release.signature)
        self._answered[name] = self._now()

    def _unload_leftovers(self, names: Collection[str]) -> None:
        """Unload what is unwanted for some seconds: requests on their way still find it."""
        for name in [n for n in self._unwanted if n not in names]:
            del self._unwanted[name]
        for name in names:
            since = self._unwanted.setdefault(name, self._now())
            if self._now() - since >= _UNLOAD_AFTER_S:
                with self._lock:
                    self._client.unload(name)
                self._unwanted.pop(name, None)
                self._answered.pop(name, None)
                _log.info("%s is unloaded", name)
