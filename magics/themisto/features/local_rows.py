"""Rows of views on one machine: Parquet files by digest, in the layers that they came in.

What readers see is what came with a view's definition, and on top of it what was pushed since; each layer is judged by
itself. Which files count is in the book; whoever calls has it open for change.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from themisto.features.book import Book
from themisto.features.erasing import erased_among, holds, key_hash, quarantine_without, without
from themisto.features.expectations import rules_of
from themisto.features.judging import REASON, judge, quarantine_file
from themisto.features.latest import fits
from themisto.features.models import FeatureView
from themisto.features.quarantines import together
from themisto.features.records import Quarantine, ViewData
from themisto.features.rowfile import is_of, merge, write_parquet

__all__ = ["LocalRows"]


class LocalRows:
    """The files of all views below one folder."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def path(self, view: str, data: ViewData) -> Path:
        """Where rows are."""
        return self._folder(view) / f"{data.sha256}.parquet"

    def quarantined(self, view: str, quarantined: Sequence[Quarantine]) -> list[Path]:
        """Where rows are that the view does not expect."""
        return [quarantine_file(self._folder(view), q) for q in quarantined]

    def _folder(self, view: str) -> Path:
        return self._home / "offline" / view

    def take_in(self, book: Book, view: FeatureView, source: Any, *, part: bool = False) -> ViewData:
        """Rows as a file, without those of entities that were erased, judged. Raises as `judge` does."""
        folder = self._folder(view.name)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="drafts-", dir=folder) as drafts:
            path, came = write_parquet(view, source, Path(drafts))
            found = erased_among(view, path, self._secret, book.erased.get(view.entity.name, ()))
            clean = without(view, path, found, path.parent)[0] if found else path
            data = judge(view, [clean], folder, part=part)
            return data.model_copy(update={"left_out": came.left_out})

    def apply(self, book: Book, view: FeatureView, data: ViewData) -> None:
        """Rows that came with the definition, in place of those before; the same ones are nothing new."""
        before = book.applied.get(view.name)
        if before is None or not before.same_as(data):
            book.applied[view.name] = data
        self._judge_pushed(book, view)
        self._show(book, view)

    def push(self, book: Book, view: FeatureView, data: ViewData) -> None:
        """Rows on top of those that were pushed before."""
        merged = self._merged(view, [*self._pushed(book, view), data])
        book.pushed[view.name] = view.version or 1, together(view, self._folder(view.name), merged)
        self._show(book, view)

    def forget(self, view: str, apart: Collection[str]) -> None:
        """Remove quarantines of a view that are part of a later one: the book has them no more."""
        for digest in apart:
            (self._folder(view) / "quarantine" / f"{digest}.parquet").unlink(missing_ok=True)

    def judge(self, book: Book, view: FeatureView) -> None:
        """Each layer as the view expects it now. Raises Invalid as `judge` does."""
        if view.name in book.applied:
            book.applied[view.name] = self._anew(view, book.applied[view.name])
        self._judge_pushed(book, view)
        self._show(book, view)

    def _judge_pushed(self, book: Book, view: FeatureView) -> None:
        for pushed in self._pushed(book, view):
            book.pushed[view.name] = view.version or 1, self._anew(view, pushed, part=True)

    def _anew(self, view: FeatureView, data: ViewData, *, part: bool = False) -> ViewData:
        """A layer and what was kept apart from it, judged again where it was by other rules."""
        if data.rules == rules_of(view.expect):
            return data
        paths = [self.path(view.name, data), *self.quarantined(view.name, data.quarantined)]
        judged = judge(view, paths, self._folder(view.name), part=part)
        return judged.model_copy(update={"written_at": data.written_at, "left_out": data.left_out})

    def _show(self, book: Book, view: FeatureView) -> None:
        parts = [*([book.applied[view.name]] if view.name in book.applied else []), *self._pushed(book, view)]
        versions = book.views[view.name]
        versions[-1] = versions[-1].model_copy(update={"data": self._merged(view, parts)})

    def _pushed(self, book: Book, view: FeatureView) -> list[ViewData]:
        """What was pushed, if its rows fit the newest version."""
        version, data = book.pushed.get(view.name, (0, None))
        fitting = data is not None and fits(book.views[view.name][version - 1].view, view)
        return [data] if data is not None and fitting else []

    def _merged(self, view: FeatureView, parts: Sequence[ViewData]) -> ViewData:
        if len(parts) == 1:
            return parts[0]
        _, data = merge(view, [self.path(view.name, part) for part in parts], self._folder(view.name))
        return data.made_of(parts)

    def erase(self, book: Book, views: Sequence[FeatureView], key: str) -> int:
        """Write every file anew that has rows of an entity, quarantines too: how many. Nothing of it comes in again.

        views: all versions of the views about the entity.
        """
        became: dict[str, ViewData] = {}
        apart: dict[str, Quarantine | None] = {}
        for view in views:
            folder = self._folder(view.name)
            for path in folder.glob("*.parquet"):
                if is_of(view, path) and holds(view, path, key):
                    became[path.stem] = without(view, path, [key], folder)[1]
                    path.unlink()
            for path in folder.glob("quarantine/*.parquet"):
                if is_of(view, path, REASON) and holds(view, path, key):
                    apart[path.stem] = quarantine_without(view, folder, book.quarantine(path.stem), key)
                    path.unlink()
        entity = views[0].entity.name
        book.erased.setdefault(entity, []).append(key_hash(self._secret, entity, key))
        book.rewrite(became, apart)
        return len(became) + len(apart)

    @cached_property
    def _secret(self) -> bytes:
        file = self._home / "erasure.key"
        if not file.exists():
            self._home.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.write_bytes(secrets.token_bytes(32))
        return file.read_bytes()
