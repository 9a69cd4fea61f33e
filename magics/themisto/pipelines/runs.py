"""How a local run went: each step's state, seconds and traceback, and the values it left on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from themisto.errors import Failed, NotFound
from themisto.types import Model

__all__ = ["PipelineRun", "StepFailed", "StepRun", "StepState"]

StepState = Literal["waiting", "running", "done", "cached", "failed"]


class StepRun(Model):
    """How one step went. `outputs`: variable -> folder of its value; `error`: the step's own traceback."""

    step: str
    state: StepState = "waiting"
    seconds: float | None = None
    attempts: int = 0
    pid: int | None = None
    error: str = ""
    outputs: Mapping[str, Path] = Field(default_factory=dict)


class PipelineRun(Model):
    """How one local run of a pipeline went, step by step."""

    id: str
    pipeline: str
    folder: Path
    steps: tuple[StepRun, ...]

    @property
    def state(self) -> Literal["done", "failed"]:
        return "done" if all(s.state in ("done", "cached") for s in self.steps) else "failed"

    @property
    def seconds(self) -> float:
        return sum(s.seconds or 0.0 for s in self.steps)

    def value(self, name: str) -> Any:
        """The value a step handed on under `name`; the last step that did. Raises NotFound."""
        from themisto.pipelines.values import load

        for step in reversed(self.steps):
            if name in step.outputs:
                return load(step.outputs[name])
        kept = sorted({n for s in self.steps for n in s.outputs})
        raise NotFound(f"No step of this run handed on '{name}'.", f"It kept: {', '.join(kept) or 'nothing'}.")


class StepFailed(Failed):
    """A step of a local run failed; `run` tells how far it came, the step's traceback with it."""

    def __init__(self, run: PipelineRun) -> None:
        step = next(s for s in run.steps if s.state == "failed")
        cause = step.error.splitlines()[-1] if step.error else "it ended without a word"
        super().__init__(f"Step '{step.step}' failed: {cause}", f"Its output is in {run.folder / 'log.txt'}.")
        self.run = run
        self.traceback = step.error
