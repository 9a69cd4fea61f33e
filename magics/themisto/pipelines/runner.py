"""One step, run by itself: values in, the cell's code in a fresh namespace, values out.

Called by the compiled pipeline's components, and as `python -m themisto.pipelines.runner` where
another orchestrator starts the containers:

    THEMISTO_STEP            the step, as JSON (`RunnableStep`)
    THEMISTO_STEP_PARAMETERS its parameters' values, as JSON
    THEMISTO_STORE           folder all steps of the run share: values lie under <step>/<variable>

A local run sets THEMISTO_PIPELINE_RUN (folder of the run's notes) and THEMISTO_PIPELINE_CACHE.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import linecache
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from themisto.errors import Failed
from themisto.pipelines import values
from themisto.pipelines.models import Scalar
from themisto.pipelines.runs import StepRun
from themisto.types import Model, new_ulid

__all__ = ["RunnableStep", "main", "run_step"]

_GRACE_S = 10.0


class RunnableStep(Model):
    """What runs: code, parameters with their values, and where its inputs and outputs lie."""

    name: str
    definitions: str = ""
    source: str
    parameters: Mapping[str, Scalar] = {}
    inputs: Mapping[str, Path] = {}
    outputs: Mapping[str, Path] = {}
    formats: Mapping[str, str] = {}
    timeout_s: float | None = None
    retries: int = 0
    cache: bool = True

    def key(self) -> str:
        """SHA-256 over all that decides the outputs: code, parameters, the inputs' digests, Python and themisto."""
        from themisto import __version__

        known = self.model_dump(include={"name", "definitions", "source", "parameters", "formats"}, mode="json")
        known["inputs"] = {name: values.manifest(path).sha256 for name, path in sorted(self.inputs.items())}
        known["outputs"] = sorted(self.outputs)
        known["by"] = [__version__, *sys.version_info[:2]]
        return hashlib.sha256(repr(sorted(known.items())).encode()).hexdigest()


def run_step(
    *,
    name: str,
    source: str,
    definitions: str = "",
    parameters: Mapping[str, Scalar] | None = None,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    formats: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    retries: int = 0,
    cache: bool = True,
) -> None:
    """Run a step. Its exceptions travel as they are, with tracebacks that show the cell's lines."""
    step = RunnableStep(
        name=name,
        source=source,
        definitions=definitions,
        parameters=parameters or {},
        inputs={n: Path(p) for n, p in (inputs or {}).items()},
        outputs={n: Path(p) for n, p in (outputs or {}).items()},
        formats=formats or {},
        timeout_s=timeout_s,
        retries=retries,
        cache=cache,
    )
    notes = os.environ.get("THEMISTO_PIPELINE_RUN")
    if notes is None:
        _attempt(step)
    else:
        _noted(step, Path(notes))


def main() -> int:
    """Run the step that the environment names."""
    step = RunnableStep.model_validate_json(os.environ["THEMISTO_STEP"])
    store = Path(os.environ["THEMISTO_STORE"])
    parameters = json.loads(os.environ.get("THEMISTO_STEP_PARAMETERS", "{}"))
    located = step.model_copy(
        update={
            "parameters": {**step.parameters, **parameters},
            "inputs": {name: store / path for name, path in step.inputs.items()},
            "outputs": {name: store / path for name, path in step.outputs.items()},
        }
    )
    _attempt(located)
    return 0


def _noted(step: RunnableStep, folder: Path) -> None:
    """A local run: cached where nothing changed, retried as told, each turn noted in `<step>.json`."""
    started = time.monotonic()
    note = StepRun(step=step.name, state="running", pid=os.getpid(), outputs=dict(step.outputs))
    _write(folder, note)
    entry = _cache_entry(step)
    if entry is not None and (entry / "done").exists():
        for name, path in step.outputs.items():
            shutil.copytree(entry / name, path, dirs_exist_ok=True)
        os.utime(entry)
        _write(folder, note.model_copy(update={"state": "cached", "seconds": time.monotonic() - started}))
        return
    for attempt in range(1, step.retries + 2):
        note = note.model_copy(update={"attempts": attempt})
        _write(folder, note)
        try:
            _attempt(step)
        except BaseException as error:
            seconds = time.monotonic() - started
            told = note.model_copy(update={"state": "failed", "seconds": seconds, "error": _told(error)})
            _write(folder, told)
            if attempt > step.retries or not isinstance(error, Exception):
                raise
        else:
            break
    if entry is not None:
        _keep(step, entry)
    _write(folder, note.model_copy(update={"state": "done", "seconds": time.monotonic() - started}))


def _attempt(step: RunnableStep) -> None:
    ns: dict[str, Any] = {"__name__": "__main__", "display": print, **step.parameters}
    with _time_limit(step):
        if step.definitions:
            _execute(step.definitions, f"<step {step.name}: definitions>", ns)
        for name, path in step.inputs.items():
            ns[name] = values.load(path)
        _execute(step.source, f"<step {step.name}>", ns)
    for name, path in step.outputs.items():
        if name not in ns:
            raise Failed(f"Step '{step.name}' ended without making '{name}'.", "Bind it on every path of the cell.")
        values.save(ns[name], path, format=step.formats.get(name, ""), name=name)


def _execute(source: str, filename: str, ns: dict[str, Any]) -> None:
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec", dont_inherit=True), ns)  # noqa: S102 - running her step is what this is for


@contextmanager
def _time_limit(step: RunnableStep) -> Iterator[None]:
    """Raise Failed in the step's code when its time is up; code that does not listen is ended ten seconds later."""
    if step.timeout_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(*_: object) -> None:
        raise Failed(f"Step '{step.name}' took longer than {step.timeout_s:g} s.", "Raise --timeout, or do less.")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, step.timeout_s)
    faulthandler.dump_traceback_later(step.timeout_s + _GRACE_S, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def _cache_entry(step: RunnableStep) -> Path | None:
    folder = os.environ.get("THEMISTO_PIPELINE_CACHE")
    return Path(folder) / step.key() if folder and step.cache else None


def _keep(step: RunnableStep, entry: Path) -> None:
    """Copy the outputs into the cache; the entry appears whole or not at all."""
    half = entry.with_name(f"{entry.name}.{new_ulid()}")
    half.mkdir(parents=True)
    for name, path in step.outputs.items():
        shutil.copytree(path, half / name)
    (half / "done").touch()
    try:
        half.rename(entry)
    except OSError:  # another run was faster
        shutil.rmtree(half)


def _told(error: BaseException) -> str:
    """The traceback from the cell's first line on: what lies before it is the runner's."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((n for n, frame in enumerate(frames) if frame.filename.startswith("<step ")), len(frames))
    lines = traceback.format_list(frames[first:])
    head = ["Traceback (most recent call last):\n"] if lines else []
    return "".join([*head, *lines, *traceback.format_exception_only(error)]).rstrip()


def _write(folder: Path, note: StepRun) -> None:
    target = folder / f"{note.step}.json"
    half = target.with_suffix(".half")
    half.write_text(note.model_dump_json())
    half.replace(target)


if __name__ == "__main__":
    sys.exit(main())
