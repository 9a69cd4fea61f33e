"""Rows that are not as their view expects: judged again where it expects something else, given out with the reason."""

from __future__ import annotations

from pathlib import Path

from themisto.errors import NotFound
from themisto.features.expectations import rules_of
from themisto.features.records import ViewData
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.layers import Layers
from themisto_hub.control.features.rows import Rows

__all__ = ["Quarantining"]


class Quarantining:
    """Keeps the rows of views as these expect them now. Rows that come in are judged by `Layers`."""

    def __init__(self, control: Control, rows: Rows, layers: Layers) -> None:
        self._control = control
        self._rows = rows
        self._layers = layers

    def judged(self, group: str, name: str, sha256: str, *, actor: str) -> ViewData:
        """Rows that the view has had, if it would take them now; else its newest rows, judged again.

        Raises Invalid as `judge` does, NotFound where there are none.
        """
        with self._control.db.read() as session:
            rules = rules_of(lookup.view_model(lookup.newest_view(session, group, name)).expect)
            data = lookup.data_of(session, group, name, sha256, rules)
        data = data or self._layers.judged(group, name, actor=actor)
        if data is None:
            raise NotFound(f"The view '{name}' has no such rows.", "Apply it together with its source.")
        return data

    def cleared(self, group: str, name: str, data: ViewData) -> None:
        """Remember that the online store has been freed of quarantined rows, whichever layer they came with."""
        freed = {q.sha256 for q in data.quarantined}
        with self._control.db.write() as session:
            lookup.change_quarantined(
                session, group, name, lambda q: q.model_copy(update={"cleared": q.cleared or q.sha256 in freed})
            )

    def file(self, caller: Caller, group: str, name: str, sha256: str) -> Path:
        """Quarantined rows of the view as it is now, by their digest; the export is one audit event."""
        with self._control.db.read() as session:
            data = lookup.newest_data(session, lookup.newest_view(session, group, name))
            quarantined = lookup.data_model(data).quarantined if data else ()
        found = next((q for q in quarantined if q.sha256 == sha256), None)
        path = self._rows.held(group, name, found) if found else None
        if path is None:
            raise NotFound(f"The view '{name}' has no such quarantine.", "See %features show.")
        with self._control.db.write() as session:
            self._control.audit.append(
                session,
                actor=caller.name,
                action="feature_view.export",
                object=f"feature_view/{group}/{name}",
                group=group,
                after={"sha256": sha256, "quarantined": True},
                request_id=caller.request_id,
            )
        return path
