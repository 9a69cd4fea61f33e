"""Artifacts: whole and verified, or not there."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

import pytest

from themisto.errors import Failed, Invalid, NotFound, Unavailable
from themisto_hub.control.serving.artifacts import ArtifactStore

DATA = os.urandom(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


async def chunks(data=DATA, size=70_000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


async def test_stored_bytes_come_back_and_only_the_owner_reads_them(store, tmp_path):
    assert await store.put(DIGEST, chunks()) is True
    assert store.read(DIGEST) == DATA
    assert stat.S_IMODE((tmp_path / "artifacts" / DIGEST).stat().st_mode) == 0o600


async def test_second_upload_is_not_stored_again(store):
    await store.put(DIGEST, chunks())
    assert await store.put(DIGEST, chunks()) is False


async def test_other_bytes_than_named_leave_nothing(store, tmp_path):
    with pytest.raises(Invalid, match="SHA-256"):
        await store.put("0" * 64, chunks())
    assert list((tmp_path / "artifacts").iterdir()) == []


async def test_too_large_is_refused_before_it_is_read(store):
    small = ArtifactStore(store._folder, max_bytes=1000)
    with pytest.raises(Invalid, match="larger"):
        await small.put(DIGEST, chunks(), declared_bytes=len(DATA))


async def test_too_large_is_stopped_while_it_streams(store, tmp_path):
    small = ArtifactStore(tmp_path / "artifacts", max_bytes=100_000)
    with pytest.raises(Invalid, match="larger"):
        await small.put(DIGEST, chunks())
    assert list((tmp_path / "artifacts").iterdir()) == []


async def test_full_disk_is_one_sentence_and_leaves_nothing(store, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("themisto_hub.control.serving.artifacts.os.write", full)
    with pytest.raises(Unavailable, match="disk of the control plane is full"):
        await store.put(DIGEST, chunks())
    assert list((tmp_path / "artifacts").iterdir()) == []


async def test_changed_file_is_noticed(store, tmp_path):
    await store.put(DIGEST, chunks())
    (tmp_path / "artifacts" / DIGEST).write_bytes(b"other")
    with pytest.raises(Failed, match="changed on disk"):
        store.read(DIGEST)


def test_missing_artifact_is_not_found(store):
    with pytest.raises(NotFound):
        store.read("0" * 64)


async def test_sweep_keeps_what_releases_name(store, tmp_path):
    await store.put(DIGEST, chunks())
    (tmp_path / "artifacts" / "half.part").write_bytes(b"x")
    assert store.sweep({DIGEST}, older_than_s=-1) == 1
    assert store.exists(DIGEST)
