"""Gatekeeper: has a release's gates decided on the hold-out, in a clean process, before any traffic."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.orm import Session

from themisto.errors import Failed, Invalid
from themisto.serving.gates import GateResult, Quality, Verdict
from themisto.serving.models import Release
from themisto.serving.trial import Role
from themisto_hub.control.context import Control
from themisto_hub.control.gates.holdouts import HoldOuts, holdout_row
from themisto_hub.control.gates.records import pinned
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.prover import Prover
from themisto_hub.control.serving.records import endpoint_row, release_model, release_row

__all__ = ["Apart", "Gatekeeper", "is_gated"]

_TIMEOUT_S = 600.0
_LEFT_S = 3 * _TIMEOUT_S


class Apart(Protocol):
    """Where an author's code answers: `Tritons`, or a stand-in of a test."""

    def answer_apart(self, release: Release, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Each batch's answers, in order. Raises Failed, Unavailable."""
        ...


def is_gated(session: Session, release: Release) -> bool:
    """Whether it must pass gates before it gets traffic: its own, or those its endpoint pins."""
    return release.quality is not None or pinned(session, release.endpoint) is not None


class Gatekeeper:
    """Candidate and champion answer the very same rows from their stored artifacts.

    ONNX is run by the clean process itself; an author's code answers apart, in its group's model server,
    and only what it answered comes back here.
    """

    def __init__(
        self, control: Control, artifacts: ArtifactStore, holdouts: HoldOuts, prover: Prover, apart: Apart
    ) -> None:
        self._control = control
        self._artifacts = artifacts
        self._holdouts = holdouts
        self._prover = prover
        self._apart = apart
        self._folder = control.settings.folder("control") / "trials"
        self._sweep()

    def _sweep(self) -> None:
        """Rows that a killed process left lying."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._folder.iterdir():
            if time.time() - left.stat().st_mtime > _LEFT_S:
                shutil.rmtree(left, ignore_errors=True)

    def judge(self, release: Release) -> tuple[GateResult, ...]:
        """How each of its gates and of those its endpoint pins was decided; passing is the caller's to look at.

        Raises Invalid or NotFound where the hold-out cannot judge the release, Failed, Unavailable.
        """
        with self._control.db.read() as session:
            stable = endpoint_row(session, release.endpoint).stable
            champion = release_model(release_row(session, release.endpoint, stable)) if stable else None
            asked = [(release.quality, False), (pinned(session, release.endpoint), True)]
            for quality, _ in asked:
                if quality is not None:
                    holdout_row(session, quality, release.group)
        return tuple(
            result
            for quality, is_pinned in asked
            if quality is not None
            for result in self._judge(release, champion, quality, is_pinned=is_pinned)
        )

    def _judge(
        self, release: Release, champion: Release | None, quality: Quality, *, is_pinned: bool
    ) -> Iterator[GateResult]:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            (folder / "quality.json").write_text(quality.model_dump_json())
            (folder / "holdout.parquet").write_bytes(self._holdouts.files(release.group).read(quality.holdout_sha256))
            self._place(folder, "candidate", release)
            if champion is not None and any("champion" in gate for gate in quality.gates):
                self._place(folder, "champion", champion)
            answer = self._try(folder, "judge", str(folder))
        verdicts = [Verdict.model_validate(one) for one in answer["verdicts"]]
        if [verdict.gate for verdict in verdicts] != list(quality.gates):
            raise Failed(f"Not every gate of {release} was judged.", "Tell the platform team.")
        for verdict in verdicts:
            yield GateResult(
                **verdict.model_dump(),
                release=release.number,
                champion_release=champion.number if champion and verdict.champion is not None else None,
                source="holdout",
                pinned=is_pinned,
                holdout_sha256=quality.holdout_sha256,
                rows=quality.rows,
                at=self._control.clock(),
            )

    def _place(self, folder: Path, role: Role, release: Release) -> None:
        """Lay the release down for the clean process, with what its code answers if it is code."""
        (folder / f"{role}.json").write_text(release.model_dump_json())
        if release.artifact.kind == "onnx":
            (folder / f"{role}.onnx").write_bytes(self._artifacts.read(release.artifact.sha256))
            return
        self._try(folder, "ask", str(folder), role)
        until = time.monotonic() + _TIMEOUT_S
        with (folder / f"{role}.requests.jsonl").open() as lines, (folder / f"{role}.answers.jsonl").open("w") as out:
            for answer in self._apart.answer_apart(release, (json.loads(line) for line in lines)):
                out.write(json.dumps(answer) + "\n")
                if time.monotonic() > until:
                    raise Failed(f"{release} took more than {_TIMEOUT_S:.0f} s for the hold-out.", "Give fewer rows.")

    def _try(self, folder: Path, *words: str) -> dict[str, Any]:
        code, answer, complained = self._prover.clean("themisto.serving.trial", folder, *words, timeout_s=_TIMEOUT_S)
        detail = str(answer.get("detail") or complained or f"it ended with {code}")
        if code == 0 and answer:
            return answer
        if code == 1 and answer:
            raise Invalid(detail, str(answer.get("remedy") or ""))
        raise Failed(f"The gates could not be judged: {detail}", "Tell the platform team.")
