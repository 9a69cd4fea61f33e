"""What a prediction by key goes on with when its features cannot be read in time: as the feature service says.

refuse: 503. null: NaN and empty text. default: the service's defaults. last: what was last read for the
entity, kept in this process; an entity that it has never read is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from themisto.errors import Unavailable
from themisto.features.reading import Found
from themisto.features.records import ServiceSpec

__all__ = ["LastRows", "instead"]

_KEPT = 50_000


class LastRows:
    """The newest row of each entity, of the services that go on with the last value."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._rows: OrderedDict[tuple[Any, ...], tuple[list[Any], datetime | None]] = OrderedDict()

    def keep(self, spec: ServiceSpec, entities: Sequence[Mapping[str, Any]], found: Found) -> None:
        """Remember what was found; the longest unread is forgotten first."""
        if spec.on_missing != "last":
            return
        for number, entity in enumerate(entities):
            if number not in found.incomplete:
                key = _key(spec, entity)
                self._rows[key] = found.rows[number], found.event_times[number]
                self._rows.move_to_end(key)
        while len(self._rows) > self._kept:
            self._rows.popitem(last=False)

    def forget(self) -> None:
        """Of all entities: some of them must not be gone on with."""
        self._rows.clear()

    def find(self, spec: ServiceSpec, entity: Mapping[str, Any]) -> tuple[list[Any], datetime | None] | None:
        return self._rows.get(_key(spec, entity))


def instead(spec: ServiceSpec, entities: Sequence[Mapping[str, Any]], last: LastRows, why: Unavailable) -> Found:
    """What the service's policy gives when nothing could be read. Raises `why` where it gives nothing."""
    if spec.on_missing == "last":
        kept = [last.find(spec, entity) for entity in entities]
        known = [one for one in kept if one is not None]
        if len(known) < len(kept):
            raise why
        return _found([row for row, _ in known], [moment for _, moment in known])
    if spec.on_missing == "refuse":
        raise why
    row = [spec.stand_ins.get(c.name) if spec.on_missing == "default" else None for c in spec.columns]
    return _found([list(row) for _ in entities], [None] * len(entities))


def _found(rows: list[list[Any]], moments: list[datetime | None]) -> Found:
    return Found.model_construct(rows=rows, event_times=moments, incomplete=())


def _key(spec: ServiceSpec, entity: Mapping[str, Any]) -> tuple[Any, ...]:
    return (spec.group, spec.ref, *(entity[k.name] for k in spec.keys))
