"""What the tracking server missed, on disk: one box a run, kept until it has been sent whole.

outbox/<run id>/
    box.json        where it belongs: server and workspace, experiment, run; locked while its run goes on
    calls.jsonl     the calls that did not get through, in order, each line on disk before the run goes on
    artifacts/<n>/  a file that did not get through, with its place in calls.jsonl
    models/<n>/     a model that did not get through, as an MLflow model folder
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from themisto.types import Model

__all__ = ["Box", "BoxLabel", "Outbox"]


class BoxLabel(Model):
    """Where a box belongs."""

    key: str
    run_id: str
    experiment_id: str


class Box:
    """One run's box. While `open`, this process holds its lock; other kernels leave it alone."""

    def __init__(self, folder: Path, label: BoxLabel) -> None:
        self.folder = folder
        self.label = label
        self._lock = threading.Lock()
        self._held: Any = None

    @classmethod
    def make(cls, root: Path, label: BoxLabel) -> Self:
        """Make and lock the box of a run that begins."""
        folder = root / label.run_id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = folder / "box.json.new"
        scratch.write_text(label.model_dump_json())
        scratch.replace(folder / "box.json")
        box = cls(folder, label)
        box.acquire()
        return box

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        try:
            return cls(folder, BoxLabel.model_validate_json((folder / "box.json").read_bytes()))
        except (OSError, ValueError):
            return None

    def acquire(self) -> bool:
        """Take the lock, which goes by itself when its process ends; False when another holds it."""
        try:
            self._held = (self.folder / "box.json").open("r+")
            _lock_file(self._held)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def discard(self) -> None:
        """All has been sent: forget it."""
        # First the label, so that a half-removed box is not a box any more.
        (self.folder / "box.json").unlink(missing_ok=True)
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def set_aside(self) -> None:
        """The server will never take it: keep it where nobody tries again."""
        aside = self.folder.parent.with_name(f"{self.folder.parent.name}-refused")
        aside.mkdir(mode=0o700, exist_ok=True)
        self.release()
        self.folder.rename(aside / self.folder.name)

    @property
    def empty(self) -> bool:
        return not (self.folder / "calls.jsonl").exists()

    def keep(self, call: Mapping[str, Any]) -> None:
        """Add one call; it is on disk when this returns."""
        with self._lock, (self.folder / "calls.jsonl").open("a") as out:
            out.write(json.dumps(call) + "\n")
            out.flush()
            os.fsync(out.fileno())

    def keep_file(self, source: Path, call: Mapping[str, Any]) -> None:
        """Copy a file into the box and add the call that will send it."""
        place = self._place("artifacts")
        shutil.copy2(source, place / source.name)
        self.keep({**call, "file": str((place / source.name).relative_to(self.folder))})

    def keep_folder(self, source: Path, call: Mapping[str, Any]) -> None:
        """Move a saved model's folder into the box and add the call that will send it."""
        place = self._place("models")
        shutil.copytree(source, place / "model")
        self.keep({**call, "file": str((place / "model").relative_to(self.folder))})

    def _place(self, kind: str) -> Path:
        with self._lock:
            parent = self.folder / kind
            parent.mkdir(exist_ok=True)
            place = parent / str(sum(1 for _ in parent.iterdir()))
            place.mkdir()
        return place

    def calls(self) -> Iterator[dict[str, Any]]:
        """The calls in order; a last line that the power cut short was never promised, and is left out."""
        try:
            lines = (self.folder / "calls.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


class Outbox:
    """All boxes of one home folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self, label: BoxLabel) -> Box:
        return Box.make(self.root, label)

    def waiting(self, key: str) -> Iterator[Box]:
        """Boxes for this server and workspace whose run is over, locked; the caller discards or releases them."""
        if not self.root.is_dir():
            return
        for folder in sorted(p for p in self.root.iterdir() if p.is_dir()):
            box = Box.load(folder)
            if box is not None and box.label.key == key and box.acquire():
                yield box


def _lock_file(file: Any) -> None:
    """An exclusive lock that never waits. Raises OSError when another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
