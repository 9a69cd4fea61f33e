"""How features show themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.display import Card, Table
from themisto.features.changes import Change, Effect
from themisto.features.findings import Findings
from themisto.features.models import Entity, FeatureView
from themisto.features.progress import rate, seconds
from themisto.features.promises import in_words, kept
from themisto.features.records import (
    Erasure,
    Freshness,
    Materialization,
    Pushed,
    RegisteredView,
    ServiceSpec,
    Streamed,
    ViewData,
)
from themisto.features.spines import shares
from themisto.types import utcnow

if TYPE_CHECKING:
    from themisto.features.applying import Applied
    from themisto.features.training import Joined

__all__ = [
    "applied",
    "checked",
    "erased",
    "freshness",
    "joined",
    "left_out",
    "listed",
    "materialized",
    "planned",
    "pushed",
    "shown",
]


class Listing:
    """Several displays below each other."""

    def __init__(self, *parts: Card | Table) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return "\n\n".join(repr(part) for part in self.parts)

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self.parts)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


def listed(views: Sequence[RegisteredView], services: Sequence[ServiceSpec]) -> Listing:
    """All views and services."""
    return Listing(
        Table(
            ["view", "version", "by", "features", "rows", "to"],
            [
                [v.view.name, v.view.version, v.view.entity.keys, [f.name for f in v.view.features], *_rows(v)]
                for v in views
            ],
            title="Feature views",
        ),
        Table(
            ["service", "keys", "features", "if missing"],
            [[s.ref, [k.name for k in s.keys], [c.name for c in s.outputs], s.on_missing] for s in services],
            title="Feature services",
        ),
    )


def _rows(view: RegisteredView) -> list[Any]:
    return [view.data.rows, view.data.last_at] if view.data else [None, None]


def shown(registered: RegisteredView) -> Card:
    """One view, whole."""
    view = registered.view
    facts: dict[str, Any] = {
        "entity": f"{view.entity.name} ({', '.join(f'{k.name} {k.dtype}' for k in view.keys)})",
        "features": [f"{f.name} {f.dtype}" for f in view.features],
        "event time": view.at,
        "holds": "until the next" if view.ttl_s is None else in_words(view.ttl_s),
    }
    if view.stream is not None:
        facts["topic"] = str(view.stream)
        if registered.freshness and registered.freshness.stream:
            facts["stream"] = _streamed(registered.freshness.stream)
    if view.expect:
        facts["expects"] = [f"{e.column} {word}" for e in view.expect for word in e.says]
    if view.windows is not None:
        events = ", ".join(f"{c.name} {c.dtype}" for c in view.windows.stored) or "none but key and time"
        facts |= {"buckets": in_words(view.windows.every_s), "events": events}
        del facts["holds"]
    if view.transform is not None:
        facts |= {"transform": f"{view.transform.language}: {view.transform.text}"}
    if registered.data:
        data = registered.data
        facts |= {"rows": data.rows, "from": data.first_at, "to": data.last_at, "sha256": data.sha256[:16]}
        if data.quarantined:
            facts["in quarantine"] = _quarantined(data)
        if data.left_out:
            facts["left out"] = left_out(data)
    facts |= {name: what for name, what in _promised(view).items() if what}
    if registered.author:
        facts |= {"author": registered.author, "group": registered.group}
    return Card(f"{view.name}, version {view.version}", facts, view.description)


def _promised(view: FeatureView) -> Mapping[str, Any]:
    """What its definition says beside the data: to readers, and to whoever asks whose it is."""
    return {
        "promise": view.fresh_s and f"the newest at most {in_words(view.fresh_s)} old",
        "online": view.online.keep > 1 and f"the last {view.online.keep} of each entity",
        "personal data": [c.name for c in (*view.keys, *view.features) if c.personal],
        "owner": view.owner,
        "tags": view.tags,
    }


def applied(done: Sequence[Applied]) -> Table:
    """What %features apply did."""
    rows: list[list[Any]] = []
    for change, thing in done:
        if isinstance(thing, Entity):
            name, content = thing.name, ", ".join(thing.keys)
        elif isinstance(thing, ServiceSpec):
            name, content = thing.ref, ", ".join(c.name for c in thing.outputs)
        else:
            name, content = f"{thing.view.name} v{thing.view.version}", _told(thing.data)
        rows.append([change.kind, name, _EFFECTS[change.effect], "; ".join(change.lines), content])
    return Table(["what", "name", "is", "what changed", "content"], rows, title="Applied")


def planned(changes: Sequence[Change]) -> Table:
    """What %features apply would do."""
    rows = [[c.kind, c.name, _EFFECTS[c.effect], "; ".join(c.lines), c.data] for c in changes]
    return Table(["what", "name", "would be", "what changes", "and its data"], rows, title="Not applied: a dry run")


_EFFECTS: Mapping[Effect, str] = {
    "new": "new",
    "nothing": "as it was",
    "said": "described anew",
    "version": "a new version",
}


def erased(done: Erasure) -> Card:
    """What %features erase did."""
    facts = {"views": done.views, "files written anew": done.files, "on record as": done.id}
    return Card(f"One {done.entity} is erased", facts, "Online and offline; rows of it that come later are kept out.")


def pushed(done: Pushed) -> Card:
    """What %features push did."""
    state = "at once" if done.online else "when the online store answers again; nothing is lost"
    facts: dict[str, Any] = {"readable online": state, "part of its past": "in a moment"}
    if done.quarantined:
        facts["in quarantine"] = done.quarantined
    if done.doubles:
        facts["left out"] = f"{done.doubles:,}: another row has its key and time"
    return Card(f"{done.view}: {_count(done.rows, 'row')}", facts)


def _told(data: ViewData | None) -> str:
    if data is None:
        return "no rows"
    told = [f"{_count(data.rows, 'row')} to {data.last_at:%Y-%m-%d %H:%M} UTC" if data.last_at else "no rows"]
    told += [f"in quarantine {_quarantined(data)}"] if data.quarantined else []
    told += [f"left out {left_out(data)}"] if data.left_out else []
    return "; ".join(told)


def left_out(data: ViewData) -> str:
    """How many rows are kept nowhere, and why."""
    return _counted(data.left_out)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _moment(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def _quarantined(data: ViewData) -> str:
    counts: Counter[str] = Counter()
    for quarantine in data.quarantined:
        counts.update(quarantine.reasons)
    return _counted(dict(counts.most_common(5)), data.quarantined_rows)


def _counted(reasons: Mapping[str, int], rows: int | None = None) -> str:
    """How many rows, and of each reason how many; `rows` where one may have several."""
    total = sum(reasons.values()) if rows is None else rows
    return f"{total}: {'; '.join(f'{said} ({count})' for said, count in reasons.items())}"


def materialized(run: Materialization) -> Card:
    """What %features materialize did."""
    span = f"{_moment(run.since) or 'the beginning'} to {_moment(run.until) or 'now'}"
    facts = {"rows written": f"{run.rows_written:,}", "span": span, "seconds": round(seconds(run), 2)}
    if run.rows_written:
        facts["rows a second"] = rate(run)
    note = "" if run.rows_written else "Nothing had changed since the last time."
    return Card(f"{run.view} is online", facts, note)


def freshness(rows: Sequence[Freshness]) -> Table:
    """How far each view reaches, and whether that is what it promises."""
    now = utcnow()
    names = ["view", "offline to", "online to", "online rows", "materialized", "promise", "kept", "in quarantine"]
    streaming = any(r.stream for r in rows)
    return Table(
        [*names, "stream"] if streaming else names,
        [
            [
                *(r.view, r.offline_to, r.online_to),
                *(None if r.materialized_at is None else r.online_rows, r.materialized_at),
                *(None if r.fresh_s is None else in_words(r.fresh_s), kept(r, now) or None, r.quarantined),
                *([_streamed(r.stream) if r.stream else None] if streaming else []),
            ]
            for r in rows
        ],
        title="Freshness",
    )


def _streamed(stream: Streamed) -> str:
    waiting = "" if stream.lag is None else f"; {stream.lag} waiting"
    poison = f"; {stream.poisoned} messages were no rows" if stream.poisoned else ""
    return f"{stream.topic}: {stream.problem.rstrip('.') or 'running'}{waiting}{poison}"


def checked(service: str, found: Findings) -> Listing:
    """What %features check found, worst first, and what was not looked at."""
    rows = [[f.severity, f.check, f.subject, f.detail, f.remedy] for f in found]
    parts: list[Card | Table] = [
        Table(["how bad", "check", "what", "what is wrong", "what to do"], rows, title=service, empty="nothing found")
    ]
    if found.skipped:
        parts.append(Card("Not looked at", found.skipped))
    return Listing(*parts)


def joined(name: str, result: Joined) -> Card:
    """What %%features put into the variable."""
    rows, spec, at = result
    total, columns, found = shares(rows, [c.name for c in spec.outputs])
    facts: dict[str, Any] = {"service": spec.ref, "as known at": at}
    if isinstance(rows, Path):
        facts["in"] = rows
    facts |= {f"found {n}": f"{100 * share:.1f} %" for n, share in found.items()}
    return Card(f"{name}: {_count(total, 'row')}, {_count(columns, 'column')}", facts)
