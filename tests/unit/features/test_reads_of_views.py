"""Reads of several views: one question a view, all at one time, one deadline that says which came too late."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from themisto.errors import Late, NotFound, ThemistoError, Unavailable
from themisto.features.models import Column
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto_hub.gateway.feature_reads import FeatureReads

KEY = Column(name="customer", dtype="int64")
SPEC = ServiceSpec(
    name="scoring",
    version=2,
    keys=(KEY,),
    columns=tuple(
        ServiceColumn(name=f"{view}_f", view=view, view_version=1, feature="f", dtype="int64")
        for view in ("slow", "fast")
    ),
    view_keys={"slow": ("customer",), "fast": ("customer",)},
    ttl_s={"slow": None, "fast": None},
    on_missing="null",
    defaults={},
)
HUNDRED = [{"customer": n} for n in range(100)]


class Store:
    """Answers after `meet` is done with the table's name; counts its questions."""

    def __init__(self, meet: Any) -> None:
        self._meet = meet
        self.asked: list[tuple[str, int]] = []

    def read(self, table: Any, keys: Any) -> Any:
        self.asked.append((table.name[:4], len(keys)))
        self._meet(table.name[:4])
        return [(key, 0, 0, int(key)) for key in keys]


def read(store: Store, limit_s: float) -> Any:
    reads = FeatureReads(store, SimpleNamespace())  # type: ignore[arg-type]
    return asyncio.run(reads.read(reads.plan(SPEC), HUNDRED, limit_s))


def test_a_hundred_entities_are_one_question_a_view_and_views_are_asked_at_one_time() -> None:
    both = threading.Barrier(2)
    store = Store(lambda _: both.wait(30))
    found = read(store, 60)
    assert sorted(store.asked) == [("fast", 100), ("slow", 100)]
    assert found.rows[7] == [7, 7]


def test_the_view_that_is_late_is_named() -> None:
    held = threading.Event()
    try:
        with pytest.raises(Late, match=r"scoring@2 were not read within 200 ms: 'slow' came too late"):
            read(Store(lambda view: held.wait(30) if view == "slow" else None), 0.2)
    finally:
        held.set()


def test_a_store_that_is_half_down_is_told_by_the_view_it_fails_for() -> None:
    def half(view: str) -> None:
        if view == "slow":
            raise Unavailable("Two of three nodes are away.", "Try again.")

    with pytest.raises(Unavailable, match=r"'slow' cannot be read now: Two of three nodes are away\. Try again\."):
        read(Store(half), 60)


class Prompt(Store):
    """Answers later, while no thread waits; the first question by a thread."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.begun: dict[str, Future[Any]] = {}

    def read_async(self, table: Any, keys: Any) -> Future[Any] | None:
        return self.begun.get(table.name[:4])


def test_what_a_store_answers_by_itself_takes_no_thread_and_what_it_cannot_begin_does() -> None:
    store = Prompt()
    store.begun["fast"] = Future()
    threading.Timer(0.05, store.begun["fast"].set_result, [[(str(n), 0, 0, -n) for n in range(100)]]).start()
    assert read(store, 60).rows[7] == [7, -7]
    assert store.asked == [("slow", 100)]


def test_what_a_store_answers_by_itself_too_late_is_named_and_given_up() -> None:
    store = Prompt()
    store.begun["slow"] = Future()
    with pytest.raises(Late, match="'slow' came too late"):
        read(store, 0.2)
    assert store.begun["slow"].cancelled()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("No node answers.", "Try again."), "'slow' cannot be read now: No node answers"),
        (NotFound("No table.", "Make it."), "The view 'slow' has no online rows yet"),
    ],
)
def test_trouble_of_a_store_that_answers_by_itself_is_told_by_the_view(error: ThemistoError, said: str) -> None:
    store = Prompt()
    store.begun["slow"] = Future()
    store.begun["slow"].set_exception(error)
    with pytest.raises(type(error), match=said):
        read(store, 60)
