"""What a view's file is made of: the files on record of which readers see one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy.orm import Session

from themisto.features.latest import fits
from themisto_hub.control.features import lookup
from themisto_hub.control.features.lookup import Part
from themisto_hub.control.features.tables import ViewRow

__all__ = ["Parts"]


@dataclass(frozen=True)
class Parts:
    """By layer; later ones count more."""

    applied: list[Part]
    pushed: list[Part]
    pending: list[Part]
    ids: list[str]
    author: str

    @classmethod
    def of(cls, session: Session, view: ViewRow, *, online: bool = False) -> Parts:
        """Of pushes into earlier versions those whose rows fit this one; online: up to the first that is not online."""
        versions = list(lookup.view_versions(session, view.group_name, view.name))
        wanted = lookup.view_model(view)
        fitting = {v.version for v in versions if v.version <= view.version and fits(lookup.view_model(v), wanted)}
        layers = [lookup.newest_data(session, v, "pushed") for v in reversed(versions) if v.version in fitting]
        pushed = next((layer for layer in layers if layer is not None), None)
        applied = lookup.newest_data(session, view, "applied")
        pending = [p for p in lookup.pushes(session, view) if p.view_version in fitting]
        if online:
            pending = list(takewhile(lambda p: p.online, pending))
        return cls(
            [Part.of(applied)] if applied else [],
            [Part.of(pushed)] if pushed else [],
            [Part.of(p) for p in pending],
            [p.id for p in pending],
            pending[-1].author if pending else applied.author if applied else view.author,
        )
