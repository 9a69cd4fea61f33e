"""Callers: who still uses which version of a name, so that its group knows when one can be retired."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import or_, select

from themisto.errors import Conflict, Unavailable
from themisto.serving.models import EndpointCaller
from themisto.serving.names import base_of, version_of
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.guard import recorded_refusals, require_owner
from themisto_hub.control.serving.records import endpoint_row
from themisto_hub.control.serving.tables import EndpointRow
from themisto_hub.gateway.callers import count_callers

__all__ = ["Callers"]

_RECENT = timedelta(days=7)
_NAMED = 5


class Callers:
    """Reads the gateway's prediction log: a caller counts once a release has answered her."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def of(self, caller: Caller, name: str, *, days: int) -> list[EndpointCaller]:
        """Callers of all versions of the name, newest first. Each look is one audit event.

        Raises NotFound, Refused, Unavailable where the log cannot be read.
        """
        base = base_of(name)
        with (
            recorded_refusals(self._control, caller, "callers.read", f"endpoint/{base}"),
            self._control.db.write() as session,
        ):
            row = endpoint_row(session, base)
            caller.require("deploy")
            require_owner(caller, row)
            mine = or_(EndpointRow.name == base, EndpointRow.name.startswith(f"{base}.v", autoescape=True))
            names = session.scalars(select(EndpointRow.name).where(mine)).all()
            self._control.audit.append(
                session,
                actor=caller.name,
                action="callers.read",
                object=f"endpoint/{base}",
                group=row.group_name,
                after={"days": days},
                request_id=caller.request_id,
            )
            since = max(row.created_at, self._control.clock() - timedelta(days=days))
        return self._count(names, since)

    def require_none(self, caller: Caller, name: str) -> None:
        """Raises Conflict, naming them, while the endpoint has callers of the last week.

        Only its group learns who they are: Refused, NotFound; Unavailable where the log cannot be read.
        """
        try:
            found = self._recent(caller, name)
        except Unavailable as error:
            raise Unavailable(
                f"{error.detail} So nobody knows who calls '{name}'.",
                f"Try again in a moment; %deploy retire {name} --force does without.",
            ) from error
        if found:
            last = f"the last one at {found[0].last:%Y-%m-%d %H:%M} UTC"
            raise Conflict(
                f"'{name}' was called in the last {_RECENT.days} days by {_named(found)}, {last}.",
                f"Tell them; then %deploy retire {name} --force ends it all the same.",
            )

    def in_words(self, caller: Caller, name: str) -> str:
        """Who called in the last week, for the audit chain; empty where nobody did or the log cannot be read."""
        try:
            found = self._recent(caller, name)
        except Unavailable:
            return "the prediction log could not be read"
        return f"called in the last {_RECENT.days} days by {_named(found)}" if found else ""

    def _recent(self, caller: Caller, name: str) -> list[EndpointCaller]:
        with (
            recorded_refusals(self._control, caller, "endpoint.retire", f"endpoint/{name}"),
            self._control.db.read() as session,
        ):
            row = endpoint_row(session, name)
            caller.require("deploy")
            require_owner(caller, row)
            retired, claimed_at = row.retired, row.created_at
        return [] if retired else self._count([name], max(claimed_at, self._control.clock() - _RECENT))

    def _count(self, names: Collection[str], since: datetime) -> list[EndpointCaller]:
        import duckdb

        folder = self._control.settings.folder("gateway") / "predictions"
        try:
            counts = count_callers(folder, list(names), since)
        except (OSError, duckdb.Error) as error:
            raise Unavailable(
                "The prediction log cannot be read.", "Tell the platform team, or try again in a moment."
            ) from error
        return [
            EndpointCaller(
                caller=one.caller or "unknown",
                endpoint=one.endpoint,
                version=version_of(one.endpoint),
                count=one.answers,
                last=one.last,
            )
            for one in counts
        ]


def _named(found: Collection[EndpointCaller]) -> str:
    names = list(dict.fromkeys(one.caller for one in found))
    more = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
