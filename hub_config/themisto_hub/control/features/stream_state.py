"""How a view's stream does, as its owners see it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from themisto.features.records import RegisteredView, Streamed
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.stream_tables import StreamRow
from themisto_hub.control.features.tables import ViewRow
from themisto_hub.control.features.topics import is_allowed

__all__ = ["registered"]

_SILENT = timedelta(seconds=30)


def registered(control: Control, session: Session, row: ViewRow) -> RegisteredView:
    """The view as the registry shows it, with its stream, which makes it as fresh as what came by it."""
    shown = lookup.registered(session, row)
    stream, fresh = _streamed(control, session, row), shown.freshness
    if stream is None or fresh is None:
        return shown
    reached = [moment for moment in (fresh.online_to, stream.reached) if moment is not None]
    apart = fresh.quarantined + stream.poisoned
    more = {"stream": stream, "online_to": max(reached, default=None), "quarantined": apart}
    return shown.model_copy(update={"freshness": fresh.model_copy(update=more)})


def _streamed(control: Control, session: Session, view: ViewRow) -> Streamed | None:
    topic = (view.definition.get("stream") or {}).get("name")
    if topic is None:
        return None
    row = session.get(StreamRow, (view.group_name, view.name))
    return Streamed(
        topic=topic,
        lag=row.lag if row else None,
        problem=_problem(control, view.group_name, topic, row),
        reached=row.reached if row else None,
        poisoned=row.poisoned if row else 0,
    )


def _problem(control: Control, group: str, topic: str, row: StreamRow | None) -> str:
    if not is_allowed(control.settings, group, topic):
        return f"The group may not read the topic '{topic}' any more."
    if row is None or row.heard_at is None:
        return "It has not begun."
    if control.clock() - row.heard_at > _SILENT:
        return f"Its consumer was last heard of at {row.heard_at:%Y-%m-%d %H:%M:%S} UTC."
    return row.problem
