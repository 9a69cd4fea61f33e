"""Steps of this notebook and what is made of them: a run here, KFP YAML, a run on Kubeflow, an Airflow DAG."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from themisto.errors import Invalid, MissingSetting, NotFound, did_you_mean
from themisto.pipelines.inference import check, infer
from themisto.pipelines.kubeflow import Kubeflow, SubmittedRun
from themisto.pipelines.local import LocalRunner, Progress
from themisto.pipelines.models import Output, Pipeline, Scalar, Step
from themisto.pipelines.notebook import Notebook
from themisto.pipelines.runs import PipelineRun, StepFailed
from themisto.pipelines.scope import names_in, parse
from themisto.pipelines.values import format_of
from themisto.profiles import Profile
from themisto.settings import Settings

__all__ = ["Pipelines"]

_NAME = "pipeline"


class Pipelines:
    """The steps that this notebook's cells were marked as, in the order they were first run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._steps: dict[str, Step] = {}
        self._cells: Sequence[str] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(self._steps.values())

    def plan(
        self,
        name: str,
        source: str,
        *,
        cells: Sequence[str] = (),
        inputs: Sequence[str] | None = None,
        outputs: Sequence[Output] | None = None,
        profile: str | None = None,
        retries: int = 0,
        timeout_s: float | None = None,
        cache: bool = True,
    ) -> Step:
        """The step `source` would make, checked before it is run; `cells`: the sources the notebook has run.

        Raises Invalid for a name that only the kernel has, NotFound for an unknown profile.
        """
        try:
            step = Step(
                name=name,
                source=source.strip("\n"),
                at=len(cells),
                inputs=None if inputs is None else tuple(inputs),
                outputs=None if outputs is None else tuple(outputs),
                profile=profile,
                retries=retries,
                timeout_s=timeout_s,
                cache=cache,
            )
        except ValidationError as error:
            raise _wrong(error) from None
        self._cells = cells
        if profile is not None and self._settings.url is not None:
            self._profiles([profile])
        check(step, self._before(name), Notebook(cells))
        return step

    def record(self, step: Step, ns: Mapping[str, Any]) -> Step:
        """Keep a step whose cell ran; `ns` tells what it left and how that travels.

        A step run again takes its old place.
        """
        written = sorted(name for name in names_in(parse(step.source)).writes if name in ns)
        written += [o.name for o in step.outputs or () if o.name in ns and o.name not in written]
        plain = (bool, int, float, str)
        results = tuple(n for n in written if type(ns[n]) in plain and not n.startswith("_"))
        kept = step.model_copy(update={"formats": {n: format_of(ns[n]) for n in written}, "results": results})
        self._steps[step.name] = kept
        return kept

    def forget(self) -> None:
        """Start the pipeline anew."""
        self._steps.clear()

    def pipeline(self, name: str = _NAME) -> Pipeline:
        """The pipeline that the steps make now. Raises Invalid as `plan` does, NotFound without steps."""
        if not self._steps:
            raise NotFound("This notebook has no steps yet.", "Mark a cell with %%step NAME.")
        return infer(name, self.steps, Notebook(self._cells))

    def compile(self, file: str | Path, *, name: str = _NAME) -> Path:
        """Write the pipeline as KFP v2 YAML (https://www.kubeflow.org/docs/components/pipelines)."""
        from themisto.pipelines.compiler import compile_pipeline

        target = _writable(file, (".yaml", ".yml"))
        pipeline = self.pipeline(name)
        compile_pipeline(pipeline, target, image=self._settings.image, profiles=self._profiles_of(pipeline))
        return target

    def run(
        self, parameters: Mapping[str, Any] | None = None, *, name: str = _NAME, progress: Progress | None = None
    ) -> PipelineRun:
        """Run all steps here, each in a process of its own; steps with nothing new come from the cache.

        Raises StepFailed with the step's own traceback.
        """
        pipeline = self.pipeline(name)
        arguments = arguments_for(pipeline, parameters or {})
        run = LocalRunner(self._settings.home / "pipelines").run(pipeline, arguments, progress)
        if run.state == "failed":
            raise StepFailed(run)
        return run

    def submit(self, parameters: Mapping[str, Any] | None = None, *, name: str = _NAME) -> SubmittedRun:
        """Start the pipeline on Kubeflow. Raises MissingSetting without an address."""
        from themisto.pipelines.compiler import compile_pipeline

        if self._settings.pipelines is None:
            raise MissingSetting(
                "%pipeline submit needs a Kubeflow server, and THEMISTO_PIPELINES is not set.",
                "Set it to kfp+https://…, or use %pipeline run.",
            )
        token = self._settings.pipelines_token
        server = Kubeflow(self._settings.pipelines, token.get_secret_value() if token else None)
        pipeline = self.pipeline(name)
        arguments = arguments_for(pipeline, parameters or {})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pipeline.yaml"
            compile_pipeline(pipeline, file, image=self._settings.image, profiles=self._profiles_of(pipeline))
            return server.submit(file, name, arguments)

    def export_airflow(self, file: str | Path, *, name: str = _NAME) -> Path:
        """Write the pipeline as an Airflow DAG, a pod a step."""
        from themisto.pipelines.airflow import export

        target = _writable(file, (".py",))
        pipeline = self.pipeline(name)
        export(pipeline, target, image=self._settings.image, profiles=self._profiles_of(pipeline))
        return target

    def _before(self, name: str) -> list[Step]:
        """The steps that come before the one called `name`; all of them for a new one."""
        names = list(self._steps)
        cut = names.index(name) if name in self._steps else len(names)
        return list(self._steps.values())[:cut]

    def _profiles_of(self, pipeline: Pipeline) -> dict[str, Profile]:
        named = sorted({task.profile for task in pipeline.tasks if task.profile})
        return self._profiles(named) if named else {}

    def _profiles(self, names: Sequence[str]) -> dict[str, Profile]:
        """The profiles called `names`, as the workbench has them."""
        from themisto.client import ControlPlane

        if self._settings.url is None:
            raise MissingSetting(
                f"What the profile '{names[0]}' gives is known to a workbench only, and THEMISTO_URL is not set.",
                "Set it, or leave out --profile.",
            )
        with ControlPlane(self._settings, verb="pipeline") as control:
            answer = control.get("profiles")
        assert isinstance(answer, list)
        known = {p.name: p for p in map(Profile.model_validate, answer)}
        for name in names:
            if name not in known:
                raise NotFound(f"There is no profile '{name}' for you.", f"Yours: {', '.join(sorted(known))}.")
        return {name: known[name] for name in names}


def _wrong(error: ValidationError) -> Invalid:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return Invalid(f"The step's {field} '{first['input']}' will not do: {first['msg']}.", "Mend it and run the cell.")


def arguments_for(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Scalar]:
    """`given` as the pipeline's parameters, each cast to its default's type.

    Raises Invalid for an unknown name or a value of another type.
    """
    arguments = {}
    for name, value in given.items():
        if name not in pipeline.parameters:
            reads = f"It reads: {', '.join(pipeline.parameters) or 'none'}."
            raise Invalid(f"No step reads a constant '{name}'.", did_you_mean(name, pipeline.parameters, reads))
        arguments[name] = _cast(name, value, type(pipeline.parameters[name]))
    return arguments


_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def _cast(name: str, value: Any, kind: type[bool] | type[int] | type[float] | type[str]) -> Scalar:
    try:
        if kind is bool:
            return _TRUTH[str(value).lower()]
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        return kind(value)
    except (KeyError, ValueError, TypeError):
        raise Invalid(f"'{value}' is no {kind.__name__}, which {name} is.", "Give it a value of that type.") from None


def _writable(file: str | Path, suffixes: tuple[str, ...]) -> Path:
    target = Path(file)
    if target.suffix not in suffixes:
        raise Invalid(f"'{file}' does not end in {' or '.join(suffixes)}.", "Name the file so.")
    if not target.parent.is_dir():
        raise NotFound(f"There is no folder '{target.parent}'.", "Make it first.")
    return target
