"""Running a pipeline here: kfp's own local runner, a process a step, with caching and the steps' own tracebacks."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from themisto.errors import Failed
from themisto.pipelines.compiler import pipeline_function
from themisto.pipelines.models import Pipeline, Scalar
from themisto.pipelines.runs import PipelineRun, StepRun
from themisto.types import new_ulid

__all__ = ["LocalRunner", "Progress"]

Progress = Callable[[PipelineRun], None]
"""Called with the run as it stands, each time a step changes."""

_KEPT_RUNS = 10
_CACHE_DAYS = 30
_IMAGE = "python"  # kfp warns about an image that does not say so; nothing is pulled
_LOG_TAIL = 4000


class LocalRunner:
    """Runs pipelines below `folder`: `runs/<id>` holds values and notes, `cache` what steps made before."""

    def __init__(self, folder: Path) -> None:
        self._runs = folder / "runs"
        self._cache = folder / "cache"

    def run(self, pipeline: Pipeline, arguments: Mapping[str, Scalar], progress: Progress | None = None) -> PipelineRun:
        """Run all steps in order, or up to the first that fails.

        Raises Failed where kfp itself fails. Interrupted, it ends the running step and says which were done.
        """
        run_id = new_ulid()
        folder = self._runs / run_id
        notes = folder / "notes"
        notes.mkdir(parents=True)
        self._cache.mkdir(parents=True, exist_ok=True)
        self._prune()
        watch = _Watch(pipeline, run_id, folder, notes, progress)
        environment = {"THEMISTO_PIPELINE_RUN": str(notes), "THEMISTO_PIPELINE_CACHE": str(self._cache)}
        try:
            with _environment(environment), _quiet(watch):
                _call(pipeline, arguments, folder / "values")
        except KeyboardInterrupt:
            raise self._interrupted(watch) from None
        except Exception as error:
            # kfp says only that a task failed; the step's own note says why.
            if not any(step.state == "failed" for step in watch.look().steps):
                raise Failed(f"The pipeline could not be run: {error}", watch.tail()) from error
        finally:
            watch.close()
        return watch.finished()

    def _interrupted(self, watch: _Watch) -> Failed:
        run = watch.look()
        for step in run.steps:
            if step.state == "running" and step.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(step.pid, signal.SIGTERM)
        done = [s.step for s in run.steps if s.state in ("done", "cached")]
        return Failed(
            f"Interrupted; {', '.join(done) or 'no step'} {'was' if len(done) < 2 else 'were'} done and kept.",
            "%pipeline run goes on from there.",
        )

    def _prune(self) -> None:
        """Keep the newest runs, and what the cache gave out lately."""
        runs = sorted(self._runs.iterdir(), key=lambda p: p.name)
        old = time.time() - _CACHE_DAYS * 86_400
        stale = [entry for entry in self._cache.iterdir() if entry.stat().st_mtime < old]
        for path in [*runs[:-_KEPT_RUNS], *stale]:
            shutil.rmtree(path, ignore_errors=True)


def _call(pipeline: Pipeline, arguments: Mapping[str, Scalar], root: Path) -> None:
    from kfp import local

    function = pipeline_function(pipeline, image=_IMAGE, profiles={})
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
    try:
        function(**{**pipeline.parameters, **arguments})
    finally:
        # kfp keeps this for the whole process; left there, a person's own components would run here too.
        local.config.LocalExecutionConfig.instance = None


class _Watch(io.TextIOBase):
    """Stands in for stdout while kfp runs: keeps the log and looks at the notes whenever something is written."""

    def __init__(self, pipeline: Pipeline, run_id: str, folder: Path, notes: Path, progress: Progress | None) -> None:
        self._run = PipelineRun(
            id=run_id,
            pipeline=pipeline.name,
            folder=folder,
            steps=tuple(StepRun(step=task.name) for task in pipeline.tasks),
        )
        self._told = self._run
        self._stdout = sys.stdout
        self._notes = notes
        self._progress = progress
        self._log = (folder / "log.txt").open("w")

    def write(self, text: str) -> int:
        self._log.write(text)
        before = self._told
        self._told = self.look(underway=True)
        if self._progress is not None and self._told != before:
            with contextlib.redirect_stdout(self._stdout):
                self._progress(self._told)
        return len(text)

    def look(self, *, underway: bool = False) -> PipelineRun:
        """The run as the notes tell it now; `underway`, the first step with no note is the one being started."""
        steps = [self._noted(step) for step in self._run.steps]
        self._run = self._run.model_copy(update={"steps": tuple(steps)})
        first = next((n for n, step in enumerate(steps) if step.state not in ("done", "cached")), None)
        if underway and first is not None and steps[first].state == "waiting":
            steps[first] = steps[first].model_copy(update={"state": "running"})
        return self._run.model_copy(update={"steps": tuple(steps)})

    def _noted(self, step: StepRun) -> StepRun:
        if step.state in ("done", "cached"):
            return step
        try:
            return StepRun.model_validate_json((self._notes / f"{step.step}.json").read_text())
        except FileNotFoundError:
            return step

    def finished(self) -> PipelineRun:
        """The run as it ended, told once more."""
        run = self.look()
        if self._progress is not None:
            self._progress(run)
        return run

    def tail(self) -> str:
        """The end of the log: what kfp's exceptions leave out."""
        self._log.flush()
        return (self._run.folder / "log.txt").read_text()[-_LOG_TAIL:]

    def close(self) -> None:
        self._log.close()


@contextlib.contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """Variables that the steps' processes inherit."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _quiet(watch: _Watch) -> Iterator[None]:
    """kfp prints and logs to stdout and stderr; all of it goes into the run's log."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    sink: Any = watch
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
