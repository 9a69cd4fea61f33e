"""Finding definitions: rows of the registry as models, with NotFound that says what there is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import Invalid, NotFound, did_you_mean
from themisto.features.models import FeatureView
from themisto.features.nouns import split_ref
from themisto.features.records import (
    Freshness,
    Materialization,
    Quarantine,
    RegisteredView,
    ServiceSpec,
    ViewData,
)
from themisto.features.resolve import as_said
from themisto_hub.control.features.tables import DataRow, MaterializationRow, PushRow, ServiceRow, ViewRow

__all__ = [
    "Part",
    "change_quarantined",
    "data_model",
    "data_of",
    "data_rows",
    "freshness_of",
    "materialization_model",
    "newest_data",
    "newest_view",
    "parts",
    "pinned",
    "pushes",
    "registered",
    "service_spec",
    "spec_model",
    "specs",
    "view_model",
    "view_versions",
]


def service_spec(session: Session, ref: str, groups: str | Collection[str] | None = None) -> ServiceSpec:
    """The feature service that `name` or `name@version` means among `groups` (None: all).

    Raises NotFound; Invalid where several groups have one of the name and none was chosen.
    """
    name, version = split_ref(ref)
    query = select(ServiceRow).where(ServiceRow.name == name).order_by(ServiceRow.version.desc())
    if version is not None:
        query = query.where(ServiceRow.version == version)
    if groups is not None:
        query = query.where(ServiceRow.group_name.in_([groups] if isinstance(groups, str) else list(groups)))
    found = session.scalars(query).all()
    if not found:
        raise NotFound(f"There is no feature service '{ref}'.", _there_are(session, ServiceRow, groups, ref))
    owners = sorted({row.group_name for row in found})
    if len(owners) > 1:
        raise Invalid(f"The groups {', '.join(owners)} each have a '{name}'.", "Say which group.")
    return spec_model(session, found[0])


def spec_model(session: Session, row: ServiceRow) -> ServiceSpec:
    """A version of a service, with what its views say today."""
    spec = ServiceSpec.model_validate(row.spec)
    return as_said(spec, lambda name, version: view_model(session.get_one(ViewRow, (row.group_name, name, version))))


def specs(session: Session, groups: Collection[str] | None = None, *, newest: bool = True) -> list[ServiceSpec]:
    """Feature services by name: the newest version of each, or all versions."""
    query = select(ServiceRow).order_by(ServiceRow.group_name, ServiceRow.name, ServiceRow.version)
    if groups is not None:
        query = query.where(ServiceRow.group_name.in_(list(groups)))
    rows = session.scalars(query).all()
    if newest:
        rows = list({(row.group_name, row.name): row for row in rows}.values())
    return [spec_model(session, row) for row in rows]


def view_versions(session: Session, group: str, name: str) -> Sequence[ViewRow]:
    """All versions, oldest first. Raises NotFound."""
    query = select(ViewRow).where(ViewRow.group_name == group, ViewRow.name == name).order_by(ViewRow.version)
    rows = session.scalars(query).all()
    if not rows:
        raise NotFound(f"There is no feature view '{name}'.", _there_are(session, ViewRow, group, name))
    return rows


def newest_view(session: Session, group: str, name: str) -> ViewRow:
    """The version that counts. Raises NotFound."""
    return view_versions(session, group, name)[-1]


def view_model(row: ViewRow) -> FeatureView:
    """The definition, with its version."""
    return FeatureView(**row.definition).with_version(row.version)


def newest_data(session: Session, view: ViewRow, layer: str | None = None) -> DataRow | None:
    """The rows of this version of the view that readers see, or the newest ones of a layer; None: it has none."""
    query = select(DataRow).where(
        DataRow.group_name == view.group_name, DataRow.view == view.name, DataRow.view_version == view.version
    )
    query = query.where(DataRow.visible if layer is None else DataRow.layer == layer)
    return session.scalars(query.order_by(DataRow.id.desc()).limit(1)).first()


def pushes(session: Session, view: ViewRow) -> Sequence[PushRow]:
    """What was pushed into any version of the view and is not part of its file, oldest first."""
    query = select(PushRow).where(PushRow.group_name == view.group_name, PushRow.view == view.name)
    return session.scalars(query.order_by(PushRow.id)).all()


class Part(NamedTuple):
    """A file of a view's rows, and how these came in."""

    sha256: str
    rows: int
    version: int
    written_at: datetime
    rules: str
    quarantined: tuple[Quarantine, ...]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, row: DataRow | PushRow) -> Part:
        quarantined = tuple(Quarantine.model_validate(q) for q in row.quarantined)
        left_out = row.left_out if isinstance(row, DataRow) else {}  # a push has all of its rows, or is refused
        return cls(row.sha256, row.rows, row.view_version, row.written_at, row.rules, quarantined, left_out)


def parts(session: Session, group: str, view: str) -> list[Part]:
    """Every file of rows that a view has or had, as far as it is on record."""
    return [Part.of(row) for row in _files(session, group, view)]


def change_quarantined(
    session: Session, group: str, view: str, change: Callable[[Quarantine], Quarantine | None]
) -> None:
    """Change what is on record about quarantined rows, wherever it is; None: they are no more."""
    for row in _files(session, group, view):
        changed = [change(q) for q in Part.of(row).quarantined]
        row.quarantined = [q.model_dump(mode="json") for q in changed if q is not None]


def _files(session: Session, group: str, view: str) -> list[DataRow | PushRow]:
    found: list[DataRow | PushRow] = []
    for table in (DataRow, PushRow):
        found += session.scalars(select(table).where(table.group_name == group, table.view == view))
    return found


def data_rows(session: Session, group: str, view: str, sha256: str) -> Sequence[DataRow]:
    """Each time that a view got the rows of this digest, newest first."""
    query = select(DataRow).where(DataRow.group_name == group, DataRow.view == view, DataRow.sha256 == sha256)
    return session.scalars(query.order_by(DataRow.id.desc())).all()


def data_of(session: Session, group: str, view: str, sha256: str, rules: str) -> ViewData | None:
    """A view's rows of this digest that were judged by these rules."""
    rows = data_rows(session, group, view, sha256)
    return next((data_model(row) for row in rows if row.rules == rules), None)


def data_model(row: DataRow) -> ViewData:
    """As the API shows it."""
    return ViewData.model_validate({name: getattr(row, name) for name in ViewData.model_fields})


def registered(session: Session, row: ViewRow) -> RegisteredView:
    """The view as the registry shows it."""
    data = newest_data(session, row)
    return RegisteredView(
        view=view_model(row),
        group=row.group_name,
        author=row.author,
        created_at=row.created_at,
        data=data_model(data) if data else None,
        freshness=freshness_of(session, row, data),
    )


def freshness_of(session: Session, view: ViewRow, data: DataRow | None) -> Freshness:
    """How far the view reaches: the newest run counts, the furthest one says how far, or what was pushed since.

    Only runs that brought this version online: what was online of an earlier one is not read by a service on this.
    """
    query = select(MaterializationRow).where(
        MaterializationRow.group_name == view.group_name,
        MaterializationRow.view == view.name,
        MaterializationRow.state == "done",
    )
    done = [row for row in session.scalars(query.order_by(MaterializationRow.id)) if view.version in row.targets]
    merged = newest_data(session, view, "pushed")
    pushed = [row.last_at for row in pushes(session, view) if row.online and row.view_version == view.version]
    brought = [*(row.reached for row in done), *pushed, merged.last_at if merged else None]
    reached = [moment for moment in brought if moment is not None]
    return Freshness(
        view=view.name,
        version=view.version,
        offline_to=data.last_at if data else None,
        online_to=max(reached) if reached else None,
        online_rows=max((row.entities for row in done), default=0),
        materialized_at=done[-1].updated_at if done else None,
        fresh_s=view_model(view).fresh_s,
        quarantined=data_model(data).quarantined_rows if data else 0,
    )


def pinned(session: Session, group: str, view: str) -> set[int]:
    """Versions of a view that some version of a service reads."""
    return {spec.views[view] for spec in specs(session, [group], newest=False) if view in spec.views}


def materialization_model(row: MaterializationRow) -> Materialization:
    """As the API shows it."""
    return Materialization.model_validate(
        {name: getattr(row, name, None) for name in Materialization.model_fields if name != "group"}
        | {"group": row.group_name}
    )


def _there_are(
    session: Session, table: type[ServiceRow | ViewRow], groups: str | Collection[str] | None, asked: str
) -> str:
    query = select(table.name).distinct().order_by(table.name)
    if groups is not None:
        query = query.where(table.group_name.in_([groups] if isinstance(groups, str) else list(groups)))
    names = session.scalars(query).all()
    if not names:
        return "None is registered yet: %features apply VAR."
    known = [n for n in names if n != asked]
    return did_you_mean(asked.partition("@")[0], known, f"There are {', '.join(names[:20])}.")
