"""What a read of a service needs to know of it, found out once: a read itself is then a lookup and a few lists."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from themisto.errors import Invalid
from themisto.features.online import Row, encode_key
from themisto.features.records import ServiceSpec

__all__ = ["Kept", "Prepared"]

T = TypeVar("T")


class Kept(Generic[T]):
    """What was made of each of the newest specs, known by identity: to compare two would cost more than a read."""

    def __init__(self, make: Callable[[ServiceSpec], T], size: int = 1000) -> None:
        self._make = make
        self._size = size
        self._made: OrderedDict[int, tuple[ServiceSpec, T]] = OrderedDict()

    def __call__(self, spec: ServiceSpec) -> T:
        known = self._made.get(id(spec))
        if known is not None and known[0] is spec:
            return known[1]
        made = self._make(spec)
        self._made[id(spec)] = spec, made  # it holds the spec, so that its id is not another's
        while len(self._made) > self._size:
            self._made.popitem(last=False)
        return made


class Prepared:
    """One service: its keys a view, and where each of its columns stands among what the views answer."""

    def __init__(self, spec: ServiceSpec) -> None:
        by_name = {k.name: k for k in spec.keys}
        self.views = tuple(spec.views)
        self.names = frozenset(by_name)
        self.known = self.names | {c.name for c in spec.request}
        self.keys = {view: tuple(by_name[name] for name in spec.view_keys[view]) for view in self.views}
        self.features = {view: [c.feature for c in spec.of(view)] for view in self.views}
        self._ref = spec.ref
        self._nothing = [[None] * len(self.features[view]) for view in self.views]
        read = {c.name: n for n, c in enumerate(c for view in self.views for c in spec.of(view))}
        order = [read[c.name] for c in spec.columns]
        self._order = None if order == sorted(order) else order
        self._defaults = [spec.stand_ins[c.name] for c in spec.columns] if spec.on_missing == "default" else None

    def check(self, entities: Sequence[Mapping[str, Any]]) -> None:
        """Raises Invalid for an entity without a key, or with a name that the service does not know."""
        names, known = self.names, self.known
        for entity in entities:
            there = entity.keys()
            if there == names or names <= there <= known:
                continue
            missing = sorted(names - there)
            what = "lacks" if missing else "has the unknown key"
            which = ", ".join(missing or sorted(there - known))
            raise Invalid(f"An entity {what} {which}.", f"{self._ref} is read by {', '.join(sorted(names))}.")

    def keys_of(self, view: str, entities: Sequence[Mapping[str, Any]]) -> list[str]:
        """One text an entity. Raises Invalid for a value that is not of its key's type."""
        columns = self.keys[view]
        if len(columns) == 1:
            name = columns[0].name
            return [encode_key(columns, (e[name],)) for e in entities]
        return [encode_key(columns, [e[k.name] for k in columns]) for e in entities]

    def together(
        self, parts: Sequence[Sequence[Row | None]]
    ) -> tuple[list[list[Any]], list[datetime | None], tuple[int, ...]]:
        """The answers of the views, each a row an entity: rows of the service, oldest event times, who lacks a view."""
        if len(parts) == 1:
            (part,), (nothing,) = parts, self._nothing
            rows = [[*(nothing if row is None else row[3:])] for row in part]
            oldest = [None if row is None else row[1] for row in part]
            incomplete = tuple([i for i, row in enumerate(part) if row is None]) if None in part else ()
        else:
            rows, oldest, lacking = [], [], []
            for i, found in enumerate(zip(*parts, strict=True)):
                values: list[Any] = []
                for row, nothing in zip(found, self._nothing, strict=True):
                    values += nothing if row is None else row[3:]
                rows.append(values)
                oldest.append(min((row[1] for row in found if row is not None), default=None))
                if None in found:
                    lacking.append(i)
            incomplete = tuple(lacking)
        if self._order is not None:
            rows = [[values[n] for n in self._order] for values in rows]
        if self._defaults is not None:
            rows = [[d if v is None else v for v, d in zip(values, self._defaults, strict=True)] for values in rows]
        return rows, [None if us is None else datetime.fromtimestamp(us / 1_000_000, UTC) for us in oldest], incomplete
