"""The registry without a workbench: SQLite and Parquet under `settings.home`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from themisto.errors import MissingSetting, NotFound
from themisto.features.answers import Answer, answer_of
from themisto.features.book import Book, BookFile, change_book, there_are
from themisto.features.erasing import key_in
from themisto.features.expectations import rules_of
from themisto.features.judging import quarantined_keys
from themisto.features.latest import Latest, fillable, latest
from themisto.features.local_rows import LocalRows
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.nouns import split_ref
from themisto.features.on_demand import check_on_demand
from themisto.features.online import OnlineTable
from themisto.features.readings import read_service
from themisto.features.records import (
    Erasure,
    Freshness,
    Materialization,
    PoisonedMessage,
    Pushed,
    RegisteredView,
    ServiceSpec,
    ViewData,
)
from themisto.features.registry import Watch, ignored, without_rows
from themisto.features.resolve import changed, resolve
from themisto.features.rowfile import check_whole
from themisto.features.sqlite import SqliteStore
from themisto.features.tiles import write_rows
from themisto.types import new_ulid, utcnow

__all__ = ["LocalRegistry"]


class LocalRegistry:
    """`Registry` on local files, for one person on one machine."""

    def __init__(self, home: Path) -> None:
        self._home = home / "features"
        self._rows = LocalRows(self._home)
        self._file = BookFile(self._home)
        self._services: tuple[Book, dict[str, ServiceSpec]] = (Book(), {})

    @cached_property
    def _store(self) -> SqliteStore:
        return SqliteStore(self._home / "online.db")

    def _book(self) -> Book:
        return self._file.read()

    def _change(self, edit: Callable[[Book], None]) -> None:
        change_book(self._home, edit)

    def put_entity(self, entity: Entity) -> Entity:
        self._change(lambda book: book.entities.__setitem__(entity.name, entity))
        return entity

    def entity(self, name: str) -> Entity:
        entities = self._book().entities
        if name not in entities:
            raise NotFound(f"There is no entity '{name}'.", there_are(entities, name))
        return entities[name]

    def put_view(self, view: FeatureView) -> RegisteredView:
        if view.stream is not None:
            raise MissingSetting(
                f"'{view.name}' has a topic, and nobody reads topics on this machine.",
                "Set THEMISTO_URL: a workbench does; or leave stream= out and push its rows.",
            )

        def edit(book: Book) -> None:
            book.entities.setdefault(view.entity.name, view.entity)
            versions = book.views.setdefault(view.name, [])
            if versions and versions[-1].view.content_hash() == view.content_hash():
                said = view.with_version(len(versions))
                versions[-1] = versions[-1].model_copy(update={"view": said})
                return
            numbered = view.with_version(len(versions) + 1)
            versions.append(RegisteredView(view=numbered, created_at=utcnow()))

        self._change(edit)
        return self.view(view.name)

    def put_rows(self, view: FeatureView, source: Any) -> ViewData:
        data = self._rows.take_in(self._book(), view, source)
        self._change(lambda book: self._rows.apply(book, view, data))
        return _data(self.view(view.name))

    def push(self, view: str, source: Any) -> Pushed:
        newest = self.view(view).view
        check_whole(newest, source)
        data = self._rows.take_in(self._book(), newest, source, part=True)
        doubles = sum(data.left_out.values())
        data = data.cleared().model_copy(update={"left_out": {}})  # nothing of a push is online before it is judged
        apart = self._book().apart() | {q.sha256 for q in data.quarantined}
        self._change(lambda book: self._rows.push(book, newest, data))
        self._rows.forget(view, apart - self._book().apart())
        for target in self._to_fill(view):
            with latest(target, self._rows.path(view, data), written_at=data.written_at) as found:
                sum(self._bring(target, found))
        self._change(lambda book: book.reached(newest, data.last_at))
        return Pushed(view=view, rows=data.rows, online=True, quarantined=data.quarantined_rows, doubles=doubles)

    def erase(self, entity: str, keys: Mapping[str, Any]) -> Erasure:
        book = self._book()
        about = [r.view for versions in book.views.values() for r in versions if r.view.entity.name == entity]
        if not about:
            raise NotFound(f"No feature view is about '{entity}'.", there_are(book.entities, entity))
        key = key_in(about[-1], keys)
        began = utcnow()
        for view in about:
            self._store.ensure(OnlineTable.of(view, ""))
            self._store.erase(OnlineTable.of(view, ""), [key])
        files: list[int] = []
        self._change(lambda book: files.append(self._rows.erase(book, about, key)))
        return Erasure(
            id=new_ulid(),
            entity=entity,
            state="done",
            views=tuple(sorted({view.name for view in about})),
            files=sum(files),
            created_at=began,
            done_at=utcnow(),
        )

    def put_service(self, service: FeatureService) -> ServiceSpec:
        if service.on_demand:
            before = self._book()
            check_on_demand(resolve(service, lambda name: before.newest(name).view, version=1))

        def edit(book: Book) -> None:
            versions = book.services.setdefault(service.name, [])
            spec = resolve(service, lambda name: book.newest(name).view, version=len(versions) + 1)
            if not versions or changed(versions[-1], spec):
                versions.append(spec)

        self._change(edit)
        return self.service(service.name)

    def views(self) -> list[RegisteredView]:
        book = self._book()
        return [book.newest(name) for name in sorted(book.views)]

    def view(self, name: str) -> RegisteredView:
        return self._book().newest(name)

    def services(self) -> list[ServiceSpec]:
        book = self._book()
        return [book.as_said(book.services[name][-1]) for name in sorted(book.services) if book.services[name]]

    def service(self, ref: str) -> ServiceSpec:
        book = self._book()
        if self._services[0] is not book:
            self._services = book, {}
        known = self._services[1]
        if ref not in known:
            known[ref] = self._service(book, ref)
        return known[ref]

    def _service(self, book: Book, ref: str) -> ServiceSpec:
        name, version = split_ref(ref)
        found = [s for s in book.services.get(name, []) if version in (None, s.version)]
        if not found:
            raise NotFound(f"There is no feature service '{ref}'.", there_are(book.services, ref))
        return book.as_said(found[-1])

    def file(self, view: RegisteredView) -> Path:
        path = self._rows.path(view.view.name, _data(view))
        if not path.is_file():
            raise NotFound(f"The rows of '{view.view.name}' are gone.", "Apply it together with its source.")
        return path

    def quarantine(self, view: RegisteredView) -> list[Path]:
        return self._rows.quarantined(view.view.name, view.data.quarantined) if view.data else []

    def poison(self, view: RegisteredView) -> list[PoisonedMessage]:
        return []

    def materialize(
        self, view: str, since: datetime | None, until: datetime | None, *, full: bool = False, watch: Watch = ignored
    ) -> Materialization:
        registered = self.view(view)
        self.file(registered)
        if _data(registered).rules != rules_of(registered.view.expect):
            self._change(lambda book: self._rows.judge(book, registered.view))
        data, book = _data(self.view(view)), self._book()
        path = self._rows.path(view, data)
        leaving = [q for q in data.quarantined if not q.cleared]
        if leaving:
            since, until, full = None, None, True
        run = Materialization(id=new_ulid(), view=view, since=since, until=until, full=full, created_at=utcnow())
        for version in self._to_fill(view):
            self._clear(version, self._rows.quarantined(view, leaving))
            base = None if full or since or until else book.online_file(view, version.version or 1)
            old = None if base is None else path.with_stem(base)
            there = old if old is not None and old.is_file() else None
            first = base is None and not (full or since or until)
            with latest(
                version, path, written_at=data.written_at, since=since, until=until, base=there, first=first
            ) as found:
                run = run.model_copy(update={"rows_written": 0, "rows_total": len(found), "state": "running"})
                for rows in self._bring(version, found):
                    run = run.model_copy(update={"rows_written": run.rows_written + rows, "updated_at": utcnow()})
                    watch(run)
                reached, entities = found.reached, found.entities

        def edit(book: Book) -> None:
            book.brought(registered.view, data, reached, entities)
            book.cleared(view, {q.sha256 for q in leaving})
            if not (since or until):
                book.online_files.update({f"{view}@{v.version or 1}": data.sha256 for v in self._to_fill(view)})

        self._change(edit)
        return run.model_copy(update={"state": "done", "updated_at": utcnow()})

    def _to_fill(self, view: str) -> list[FeatureView]:
        book = self._book()
        pinned = {spec.views[view] for specs in book.services.values() for spec in specs if view in spec.views}
        return fillable([r.view for r in book.views[view]], pinned)

    def _clear(self, view: FeatureView, leaving: Sequence[Path]) -> None:
        """Take entities with quarantined rows off the online store; all that is right is brought after it."""
        table = OnlineTable.of(view, "")
        self._store.ensure(table)
        for quarantine in leaving:
            for keys in quarantined_keys(view, quarantine):
                self._store.erase(table, keys)

    def _bring(self, view: FeatureView, found: Latest) -> Iterator[int]:
        """Write what there is to write; how many rows, batch by batch."""
        table = OnlineTable.of(view, "")
        self._store.ensure(table)
        self._store.erase(table, found.gone())
        for batch, new in found.rows():
            yield write_rows(self._store, table, batch, new=new)

    def read(
        self,
        ref: str,
        entities: Sequence[Mapping[str, Any]],
        *,
        features: Sequence[str] | None = None,
        history: int | None = None,
    ) -> Answer:
        spec = self.service(ref)
        return answer_of(read_service(self._store, spec, entities, features=features, history=history))

    def freshness(self) -> list[Freshness]:
        book = self._book()
        return [
            book.freshness(r.view).model_copy(
                update={
                    "offline_to": r.data.last_at if r.data else None,
                    "fresh_s": r.view.fresh_s,
                    "quarantined": r.data.quarantined_rows if r.data else 0,
                }
            )
            for r in self.views()
        ]


def _data(view: RegisteredView) -> ViewData:
    if view.data is None:
        raise without_rows(view)
    return view.data
