"""Endpoints: stable names, as people look them up."""

from __future__ import annotations

from sqlalchemy import select

from themisto.errors import NotFound
from themisto.serving.models import Endpoint
from themisto.serving.rollout import ACTIVE
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.gates.difference import gate_changes
from themisto_hub.control.serving.diff import Diff, difference
from themisto_hub.control.serving.guard import may_see
from themisto_hub.control.serving.records import endpoint_model, endpoint_row, release_model, release_row
from themisto_hub.control.serving.tables import EndpointRow, OfferRow

__all__ = ["Endpoints"]


class Endpoints:
    """Reads endpoints; what changes them is a release or a rollout."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def page(self, caller: Caller, *, limit: int = 100, after: str | None = None) -> list[Endpoint]:
        """Endpoints that the caller may see, by name.

        Also what is offered to a group of hers, so that she knows; its rollout and gates are the owner's until then.
        """
        with self._control.db.read() as session:
            query = select(EndpointRow).where(EndpointRow.group_name != "").order_by(EndpointRow.name)
            if after is not None:
                query = query.where(EndpointRow.name > after)
            offered = set(session.scalars(select(OfferRow.endpoint).where(OfferRow.to_group.in_(caller.groups))))
            rows = [r for r in session.scalars(query) if may_see(caller, r.group_name) or r.name in offered]
            found = [endpoint_model(session, self._control.settings, row) for row in rows[:limit]]
            owners = {"rollout": None, "pinned": None}
            return [one if may_see(caller, one.group) else one.model_copy(update=owners) for one in found]

    def get(self, caller: Caller, name: str) -> Endpoint:
        """Raises NotFound, also where the caller may not know that it exists."""
        with self._control.db.read() as session:
            row = endpoint_row(session, name)
            if not may_see(caller, row.group_name):
                raise NotFound(f"There is no endpoint '{name}'.", "See the names: %deploy status.")
            return endpoint_model(session, self._control.settings, row)

    def diff(self, caller: Caller, name: str) -> Diff:
        """The newest release on its way against stable; between rollouts, stable against the one before.

        Raises NotFound when there is no release yet.
        """
        endpoint = self.get(caller, name)
        with self._control.db.read() as session:
            row = endpoint_row(session, name)
            rollout = endpoint.rollout
            on_its_way = rollout is not None and rollout.state in ACTIVE
            new = rollout.release if rollout is not None and on_its_way else row.stable
            old = row.stable if on_its_way else row.previous
            if new is None:
                raise NotFound(f"'{name}' has no release to compare.", "Deploy one with %%deploy.")
            candidate = release_model(release_row(session, name, new))
            stable = release_model(release_row(session, name, old)) if old else None
            return difference(candidate, stable, gate_changes(session, candidate, stable))
