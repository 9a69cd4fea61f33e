"""Training rows: a spine with the features of a service as they were at each row's time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from themisto.errors import Invalid
from themisto.features.records import RegisteredView, ServiceSpec
from themisto.features.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Joined", "Training", "still_there"]


class Joined(NamedTuple):
    """A point-in-time join and what it was made with."""

    frame: pd.DataFrame
    spec: ServiceSpec
    at: str


class Training:
    """The past of a registry's views, for those who learn from it."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def joined(
        self, entities: pd.DataFrame | str, service: str, *, at: str | None, frames: Mapping[str, Any], known: bool
    ) -> Joined:
        from themisto.features.join import point_in_time, time_column

        spec = self.registry.service(service)
        views = {name: self.registry.view(name) for name in spec.views}
        frame = self.query(entities, frames) if isinstance(entities, str) else entities
        definitions = {name: registered.view for name, registered in views.items()}
        files = {name: self.registry.file(registered) for name, registered in views.items()}
        still_there(spec, views)
        at = at or time_column(frame, {name: view.at for name, view in definitions.items()})
        return Joined(point_in_time(frame, at, spec, files, definitions, known=known), spec, at)

    def query(self, sql: str, frames: Mapping[str, Any]) -> pd.DataFrame:
        from themisto.features.sql import query

        return query(sql, frames, self._rows_of)

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
            raise Invalid(
                f"{spec.ref} reads {name}:{column} ({dtype}), and version {view.version} of the view has it no more.",
                f"Apply the service '{spec.name}' again, on the view as it is now.",
            )
