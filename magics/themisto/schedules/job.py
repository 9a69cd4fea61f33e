"""`python -m themisto.schedules.job`: the one thing that the server of a job does.

The hub starts it as it starts a single-user server. It answers the hub's question whether it is up,
and nobody else; learns its task by its own token; runs the notebook; leaves the outputs, reports, and
ends. The control plane stops the server then.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from themisto.client import ControlPlane
from themisto.errors import ThemistoError, Unavailable
from themisto.schedules.models import JobTask
from themisto.schedules.notebook import Outcome, run_notebook
from themisto.schedules.presence import Presence
from themisto.schedules.snapshot import unpack
from themisto.settings import Settings

__all__ = ["main"]

T = TypeVar("T")
_log = logging.getLogger("themisto.job")
_PATIENCE_S = 900.0
_UPLOAD_TIMEOUT_S = 120.0


def main() -> int:
    """Run the job of this server; 0 once the control plane knows how it went."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Presence.from_environment(os.environ), ControlPlane(Settings(), verb="schedule") as control:
        try:
            return _work(control)
        except ThemistoError as error:
            _log.error("%s", error)
            return 1


def _work(control: ControlPlane) -> int:
    task = JobTask.model_validate(_patiently(lambda: control.get("jobs/mine")))
    _log.info("job %s of %s, try %d", task.id, task.schedule, task.attempt)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="job-") as folder:
        outcome = _run(control, task, Path(folder))
        for name, content in outcome.outputs.items():
            _patiently(lambda n=name, c=content: _upload(control, task, n, c))  # type: ignore[misc]
    report = outcome.report(time.monotonic() - started)
    _patiently(lambda: control.request("POST", f"jobs/{task.id}/report", json=report.model_dump(mode="json")))
    _log.info("%s after %.1f s", report.state, report.seconds)
    return 0


def _run(control: ControlPlane, task: JobTask, folder: Path) -> Outcome:
    """The notebook's outcome; a snapshot that cannot be had is one too."""
    try:
        content = _patiently(
            lambda: control.request("GET", f"jobs/{task.id}/snapshot", timeout_s=_UPLOAD_TIMEOUT_S).content
        )
        work = folder / "work"
        work.mkdir()
        unpack(content, task.snapshot_sha256, work)
        return run_notebook(work / task.notebook, task.parameters, folder)
    except ThemistoError as error:
        return Outcome(state="failed", error=str(error))


def _upload(control: ControlPlane, task: JobTask, name: str, content: bytes) -> None:
    control.request("PUT", f"jobs/{task.id}/outputs/{name}", content=content, timeout_s=_UPLOAD_TIMEOUT_S)


def _patiently(ask: Callable[[], T]) -> T:
    """`ask` again while the control plane is away: what a job did must not be lost to a restart."""
    waits = Retrying(
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_delay(_PATIENCE_S),
        wait=wait_random_exponential(multiplier=0.5, max=15),
        reraise=True,
    )
    return waits(ask)


if __name__ == "__main__":
    sys.exit(main())
