"""Training rows: a spine with the features of a service as they were at each row's time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from themisto.errors import Invalid
from themisto.features.engine import Bounds, Told, scratch
from themisto.features.holding import hold
from themisto.features.records import RegisteredView, ServiceSpec
from themisto.features.registry import Registry
from themisto.features.selected import Select
from themisto.features.spines import is_path, spooled
from themisto.features.sql import answer, query

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Joined", "Training", "still_there"]


class Joined(NamedTuple):
    """A point-in-time join and what it was made with; `frame` is what the spine was, or the path it was written to."""

    frame: Any
    spec: ServiceSpec
    at: str


class Training:
    """The past of a registry's views, for those who learn from it."""

    def __init__(self, registry: Registry, bounds: Bounds) -> None:
        self.registry = registry
        self._bounds = bounds

    def joined(
        self,
        entities: Any,
        service: str,
        *,
        at: str | None,
        frames: Mapping[str, Any],
        known: bool,
        to: str | Path | None,
        told: Told | None,
    ) -> Joined:
        from themisto.features.join import point_in_time, time_column

        spec = self.registry.service(service)
        target = None if to is None else Path(to)
        with scratch(self._bounds) as folder:
            held = {name: hold(self.registry, name, folder) for name in spec.views}
            views = {name: view for name, (view, _) in held.items()}
            files = {name: path for name, (_, path) in held.items()}
            definitions = {name: registered.view for name, registered in views.items()}
            still_there(spec, views)
            spine = entities.collect() if type(entities).__name__ == "LazyFrame" else entities
            if isinstance(entities, str) and not is_path(entities):
                spine = self._selected(entities, frames, None if target is None else folder / "selected.parquet")
            at = at or time_column(spine, {name: view.at for name, view in definitions.items()})
            how: dict[str, Any] = {"known": known, "bounds": self._bounds, "told": told, "to": target}
            return Joined(point_in_time(spine, at, spec, files, definitions, **how), spec, at)

    def query(self, sql: str, frames: Mapping[str, Any]) -> pd.DataFrame:
        return query(sql, frames, self._rows_of, bounds=self._bounds)

    def select(self, sql: str, tables: Mapping[str, Any]) -> Select:
        return Select(sql, tables, self._rows_of, self._bounds)

    def _selected(self, sql: str, frames: Mapping[str, Any], to: Path | None) -> Any:
        """A DataFrame, or a file where the result will be one: it may be larger than memory."""
        if to is None:
            return self.query(sql, frames)
        return answer(sql, frames, self._rows_of, lambda found: spooled(found, to), bounds=self._bounds)

    def _rows_of(self, name: str) -> Any | None:
        import pyarrow.dataset as ds

        views = {r.view.name: r for r in self.registry.views()}
        return ds.dataset(self.registry.file(views[name])) if name in views else None


def still_there(spec: ServiceSpec, views: Mapping[str, RegisteredView]) -> None:
    """Raises Invalid where a view's newest version lacks what an older service reads."""
    for name in spec.views:
        view, windows = views[name].view, spec.windows.get(name)
        read = {(c.feature, c.dtype) for c in spec.of(name)}
        needed = read if windows is None else {(c.name, c.dtype) for c in windows.stored}
        have = {(c.name, c.dtype) for c in view.stored}
        if (windows is None) != (view.windows is None) or not needed <= have:
            column, dtype = min(needed - have, default=min(read))
            other = next((kind for known, kind in have if known == column and kind != dtype), None)
            now = "no more" if other is None else f"as {other}"
            raise Invalid(
                f"{spec.ref} reads {name}:{column} ({dtype}), and version {view.version} of the view has it {now}.",
                f"Apply the service '{spec.name}' again, on the view as it is now.",
            )
