"""Changes: after an endpoint has changed, who must know — the route table, the reconciler, the panels."""

from __future__ import annotations

from collections.abc import Callable

from themisto.serving.models import Endpoint
from themisto_hub.control.context import Control
from themisto_hub.control.serving.records import endpoint_model, endpoint_row

__all__ = ["Changes"]


class Changes:
    """Told after a commit, never inside a transaction; subscribers must be quick and must not raise."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, subscriber: Callable[[], None]) -> None:
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Callable[[], None]) -> None:
        self._subscribers.remove(subscriber)

    def tell(self, name: str) -> Endpoint:
        """Something about the endpoint was committed; what it is now."""
        with self._control.db.read() as session:
            endpoint = endpoint_model(session, self._control.settings, endpoint_row(session, name))
        for subscriber in tuple(self._subscribers):
            subscriber()
        approvers = self._control.settings.approver_groups if endpoint.tier == "prod" else frozenset()
        for group in {endpoint.group} | approvers:
            self._control.events.publish("endpoint", endpoint.model_dump(mode="json"), group)
        return endpoint
