"""How steps, pipelines and runs show themselves."""

from __future__ import annotations

from html import escape

from themisto.display import Card, Table
from themisto.pipelines.kubeflow import SubmittedRun
from themisto.pipelines.models import Pipeline, Step
from themisto.pipelines.runs import PipelineRun

__all__ = ["PipelineTable", "RunTable", "StepCard", "SubmittedCard"]

_MARKS = {"waiting": "·", "running": "…", "done": "✓", "cached": "✓", "failed": "✗"}


class StepCard(Card):
    """A step that was run and recorded."""

    def __init__(self, step: Step, number: int, pipeline: Pipeline | None) -> None:
        task = next((t for t in pipeline.tasks if t.name == step.name), None) if pipeline else None
        facts = {"takes": [f"{n} (from {p})" for n, p in task.inputs.items()] or None} if task else {}
        facts["left"] = [f"{n} ({how or 'cannot travel'})" for n, how in step.formats.items()] or None
        if task and task.parameters:
            facts["reads"] = list(task.parameters)
        super().__init__(f"Step {number}: {step.name}", facts)


class PipelineTable(Table):
    """The steps of a pipeline and what flows between them."""

    def __init__(self, pipeline: Pipeline) -> None:
        rows = [
            [
                t.name,
                [f"{n} ← {p}" for n, p in t.inputs.items()] or None,
                list(t.outputs) or None,
                _options(pipeline, n),
            ]
            for n, t in enumerate(pipeline.tasks)
        ]
        parameters = ", ".join(f"{k}={v!r}" for k, v in pipeline.parameters.items())
        super().__init__(["step", "takes", "hands on", "options"], rows, title=f"{pipeline.name}({parameters})")


class RunTable(Table):
    """A local run, step by step; below it the failing step's own traceback."""

    def __init__(self, run: PipelineRun) -> None:
        rows = [
            [
                f"{_MARKS[s.state]} {s.step}",
                s.state,
                None if s.seconds is None else f"{s.seconds:.2f}",
                s.attempts or None,
            ]
            for s in run.steps
        ]
        super().__init__(["step", "state", "seconds", "attempts"], rows, title=f"{run.pipeline}: {run.state}")
        self.run = run
        self.error = next((s.error for s in run.steps if s.state == "failed"), "")

    def __repr__(self) -> str:
        return "\n\n".join(part for part in (super().__repr__(), self.error) if part)

    def _repr_html_(self) -> str:
        error = f"<pre>{escape(self.error)}</pre>" if self.error else ""
        return f"{super()._repr_html_()}{error}"

    def value(self, name: str) -> object:
        """The value a step handed on under `name`."""
        return self.run.value(name)


class SubmittedCard(Card):
    """A run that was started on Kubeflow."""

    def __init__(self, run: SubmittedRun) -> None:
        super().__init__(f"Submitted {run.name}", {"run": run.id, "look": run.url})


def _options(pipeline: Pipeline, number: int) -> str | None:
    task = pipeline.tasks[number]
    told = [
        f"profile {task.profile}" if task.profile else "",
        f"{task.retries} retries" if task.retries else "",
        f"at most {task.timeout_s:g} s" if task.timeout_s else "",
        "" if task.cache else "no cache",
    ]
    return ", ".join(t for t in told if t) or None
