"""What every handler and worker of the control plane shares: the composition root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from fastapi import Request

from themisto.types import utcnow
from themisto_hub.control.audit import Audit
from themisto_hub.control.db import Database
from themisto_hub.control.events import Events
from themisto_hub.control.hub import HubClient
from themisto_hub.control.outbox.outbox import Outbox
from themisto_hub.control.outbox.target import Target, configured
from themisto_hub.control.tokens import Signer
from themisto_hub.settings import Deployment, Keys

if TYPE_CHECKING:
    from themisto_hub.control.features.service import Features
    from themisto_hub.control.metrics import Metrics
    from themisto_hub.control.serving.service import Serving

__all__ = ["Control", "get_control"]


class Control:
    """Settings, keys, database, audit chain, outbox, metrics, hub, events and clock, each made once."""

    def __init__(
        self,
        settings: Deployment,
        keys: Keys,
        *,
        clock: Callable[[], datetime] = utcnow,
        hub: HubClient | None = None,
        targets: Sequence[Target] | None = None,
    ) -> None:
        self.settings = settings
        self.keys = keys
        self.clock = clock
        self.events = Events()
        self._hub = hub
        self._targets = targets

    @cached_property
    def db(self) -> Database:
        return Database(self.settings.database_url)

    @cached_property
    def audit(self) -> Audit:
        folder = self.settings.folder("control") / "audit"
        return Audit(folder, self.clock, self.outbox.hear, self.metrics.hear)

    @cached_property
    def outbox(self) -> Outbox:
        """Raises Invalid where the events' setting is wrong."""
        targets = configured() if self._targets is None else self._targets
        return Outbox(self.db, targets, self.clock, self.settings.review_url)

    @cached_property
    def metrics(self) -> Metrics:
        from themisto_hub.control.metrics import Metrics

        return Metrics(self.db, self.clock, self.settings.folder("gateway"))

    @cached_property
    def hub(self) -> HubClient:
        token = self.keys.hub_control
        return self._hub or HubClient(self.settings.hub_api, token.get_secret_value() if token else "")

    @cached_property
    def signer(self) -> Signer:
        return Signer(self.settings.folder("control") / "keys" / "gateway.pem", self.settings.control_url, self.clock)

    @cached_property
    def features(self) -> Features:
        from themisto_hub.control.features.service import Features

        return Features(self)

    @cached_property
    def serving(self) -> Serving:
        from themisto_hub.control.serving.service import Serving

        return Serving(self)

    def close(self) -> None:
        if "db" in self.__dict__:
            self.db.close()
        if "hub" in self.__dict__:
            self.hub.close()


def get_control(request: Request) -> Control:
    """FastAPI dependency."""
    control: Control = request.app.state.control
    return control
