"""Overview: the views of one's groups as the panel lists them, and how the values of one are spread."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select

from themisto.features.promises import kept
from themisto.features.records import Freshness, RegisteredView, ServiceSpec
from themisto.features.sketches import Sketch, sketch
from themisto.types import Identifier, Model, UtcTime
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.rows import Rows
from themisto_hub.control.features.stream_state import registered
from themisto_hub.control.features.tables import ViewRow

__all__ = ["Overview", "ViewLine"]

_KEPT = 200


class ViewLine(Model):
    """The newest version of a view, in a line.

    owner: as its definition says, else who registered it. kept: whether its promise of freshness is kept, "yes" or why
    not; empty where it makes none. services: the newest versions of those that read it.
    """

    name: Identifier
    version: int
    group: str
    owner: str
    description: str = ""
    keys: tuple[str, ...]
    features: int
    rows: int
    offline_to: UtcTime | None = None
    online_to: UtcTime | None = None
    fresh_s: float | None = None
    kept: str = ""
    quarantined: int = 0
    topic: str | None = None
    services: tuple[str, ...] = ()


class Overview:
    """What there is to see of features without reading a row."""

    def __init__(self, control: Control, rows: Rows) -> None:
        self._control = control
        self._rows = rows
        self._sketches: OrderedDict[tuple[str, str], Sketch] = OrderedDict()
        self._keeping = threading.Lock()

    def views(self, groups: Collection[str], *, limit: int) -> list[ViewLine]:
        """By group and name."""
        with self._control.db.read() as session:
            query = select(ViewRow).where(ViewRow.group_name.in_(list(groups)))
            query = query.order_by(ViewRow.group_name, ViewRow.name, ViewRow.version)
            newest = {(row.group_name, row.name): row for row in session.scalars(query)}
            readers = _readers(lookup.specs(session, groups))
            found = [(place, registered(self._control, session, row)) for place, row in [*newest.items()][:limit]]
        return [self._line(view, readers.get(place, [])) for place, view in found]

    def sketch(self, group: str, name: str) -> Sketch:
        """Of the rows that readers see; made once for each file and definition. Raises NotFound."""
        with self._control.db.read() as session:
            view = lookup.view_model(lookup.newest_view(session, group, name))
        file = self._rows.find(group, name)
        said = file.stem, view.model_dump_json(include={"name", "version", "features", "windows", "transform"})
        with self._keeping:
            known = self._sketches.get(said)
        if known is None:
            known = sketch(view, file)
            with self._keeping:
                self._sketches[said] = known
                while len(self._sketches) > _KEPT:
                    self._sketches.popitem(last=False)
        return known

    def _line(self, found: RegisteredView, services: Sequence[str]) -> ViewLine:
        view, fresh = found.view, found.freshness or Freshness(view=found.view.name, version=found.view.version or 1)
        return ViewLine(
            name=view.name,
            version=view.version or 1,
            group=found.group,
            owner=view.owner or found.author,
            description=view.description,
            keys=tuple(k.name for k in view.keys),
            features=len(view.features),
            rows=found.data.rows if found.data else 0,
            offline_to=fresh.offline_to,
            online_to=fresh.online_to,
            fresh_s=fresh.fresh_s,
            kept=kept(fresh, self._control.clock()),
            quarantined=fresh.quarantined,
            topic=str(view.stream) if view.stream else None,
            services=tuple(services),
        )


def _readers(specs: Sequence[ServiceSpec]) -> Mapping[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for spec in specs:
        for view in spec.views:
            found[spec.group, view].append(spec.ref)
    return found
