"""Prover: a clean process, not the author's kernel, repeats the goldens from the stored artifact."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from themisto.errors import Failed, ParityError, Unavailable
from themisto.serving.models import Release
from themisto_hub.control.serving.artifacts import ArtifactStore

__all__ = ["Prover"]

_TIMEOUT_S = 120.0
_KEPT = 2000


class Prover:
    """Runs `python -m themisto.serving.prove FOLDER` with nothing of the control plane's in its environment.

    For ONNX only: code of an author must not run under the control plane's uid (see `Tritons.prove_apart`).
    """

    def __init__(self, artifacts: ArtifactStore, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._artifacts = artifacts
        self._timeout_s = timeout_s
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def prove(self, release: Release) -> str:
        """What the process said. Raises ParityError when the artifact answers otherwise, Failed, Unavailable."""
        with tempfile.TemporaryDirectory(prefix="prove-") as name:
            folder = Path(name)
            (folder / "release.json").write_text(release.model_dump_json())
            (folder / f"model.{release.artifact.kind}").write_bytes(self._artifacts.read(release.artifact.sha256))
            code, answer, complained = self.clean("themisto.serving.prove", folder, str(folder))
        detail = str(answer.get("detail") or complained or f"it ended with {code}")
        if code == 0 and answer.get("agrees") is True:
            return detail
        if code == 1 and answer.get("agrees") is False:
            raise ParityError(detail, "Export the model again and deploy that.")
        raise Failed(f"The proof of {release} could not be made: {detail}", "Tell the platform team.")

    def clean(
        self, module: str, folder: Path, *words: str, timeout_s: float | None = None
    ) -> tuple[int, dict[str, Any], str]:
        """Run `python -m MODULE WORDS…` in `folder`: its exit code, the JSON it printed, its last complaints.

        Raises Failed when it takes too long, Unavailable while the control plane stops.
        """
        code, said, complained = self._run(module, folder, words, timeout_s or self._timeout_s)
        if code < 0 and self._closed:
            raise _stopping()
        return code, _answer(said), complained

    def _run(self, module: str, folder: Path, words: Sequence[str], timeout_s: float) -> tuple[int, str, str]:
        command = [sys.executable, "-I", "-m", module, *words]
        environment = {"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        with self._lock:
            if self._closed:
                raise _stopping()
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            said, complained = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            raise Failed(f"The proof took more than {timeout_s:.0f} s.", "Give a smaller sample or hold-out.") from None
        finally:
            self._running.discard(process)
        return process.returncode, said, complained.strip()[-_KEPT:]

    def close(self) -> None:
        """End what runs: the control plane stops, and repeats the proof when it is back."""
        with self._lock:
            self._closed = True
            for process in tuple(self._running):
                _kill(process)


def _answer(said: str) -> dict[str, Any]:
    """The one JSON document that a proof prints; nothing where it printed none."""
    try:
        answer = json.loads(said)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _stopping() -> Unavailable:
    return Unavailable("The control plane is stopping.", "The proof is repeated after its start.")


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
