"""The registry behind the control plane: what it keeps of other people's rows, and for how long."""

from __future__ import annotations

import hashlib
import os
import time
from types import SimpleNamespace

import pytest

from themisto.features.remote import RemoteRegistry
from themisto.types import new_ulid, utcnow

ROWS = b"rows, as they are now"
DIGEST = hashlib.sha256(ROWS).hexdigest()


class Control:
    """Answers with rows, and that an erasure is done."""

    group = "team"

    def __init__(self) -> None:
        self.requests = 0

    def request(self, *_, **__):
        self.requests += 1
        return SimpleNamespace(content=ROWS)

    def post(self, *_):
        return {"id": new_ulid(), "entity": "person", "state": "done", "created_at": utcnow()}


@pytest.fixture
def registry(tmp_path):
    return RemoteRegistry(Control(), tmp_path)


def old(folder, name, days):
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{name}.parquet"
    copy.write_bytes(b"rows of before")
    os.utime(copy, times=(time.time() - days * 86_400,) * 2)
    return copy


def test_rows_are_fetched_once_and_those_unused_for_a_week_go(registry, tmp_path):
    unused, used = (old(tmp_path / "cache" / "features", name, days) for name, days in (("a", 8), ("b", 6)))
    for _ in range(2):
        assert registry._fetched("people", "data", DIGEST).read_bytes() == ROWS
    assert registry._control.requests == 1
    assert (unused.exists(), used.exists()) == (False, True)


def test_a_copy_that_is_used_stays(registry, tmp_path):
    path = registry._fetched("people", "data", DIGEST)
    os.utime(path, times=(time.time() - 8 * 86_400,) * 2)
    registry._fetched("people", "data", DIGEST)
    registry._sweep()
    assert path.exists()


def test_erasing_leaves_no_copy_here(registry):
    path = registry._fetched("people", "data", DIGEST)
    registry.erase("person", {"id": 1})
    assert not path.exists()
