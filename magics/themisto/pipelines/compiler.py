"""A pipeline as Kubeflow Pipelines v2: one component a step, written as Python and compiled by kfp itself."""

from __future__ import annotations

import keyword
import linecache
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from themisto.errors import Invalid
from themisto.pipelines.models import Pipeline, Scalar, Task
from themisto.profiles import Profile
from themisto.types import new_ulid

__all__ = ["as_python", "compile_pipeline", "gpu_resources", "pipeline_function"]

_FRAMES = frozenset({"parquet", "npy"})
_MODELS = frozenset({"onnx", "lightgbm", "xgboost", "skops"})


def compile_pipeline(
    pipeline: Pipeline, file: Path, *, image: str, profiles: Mapping[str, Profile] | None = None
) -> None:
    """Write the pipeline's IR (YAML) to `file`. `profiles`: those the steps name, for image and limits."""
    from kfp import compiler

    function = pipeline_function(pipeline, image=image, profiles=profiles or {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(function, str(file))


def pipeline_function(pipeline: Pipeline, *, image: str, profiles: Mapping[str, Profile]) -> Any:
    """The pipeline as kfp's own object: called, it runs locally; compiled, it is YAML."""
    from kfp import dsl

    _check_names(pipeline)
    text = as_python(pipeline)
    filename = f"<pipeline {pipeline.name} {new_ulid()}>"
    # kfp takes a component's source by inspect, which looks here for code that is in no file.
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    ns: dict[str, Any] = {
        "__name__": filename,
        "Artifact": dsl.Artifact,
        "Dataset": dsl.Dataset,
        "Model": dsl.Model,
        "Input": dsl.Input,
        "Output": dsl.Output,
        "component": dsl.component(base_image=image, install_kfp_package=False),
        "pipeline": dsl.pipeline(name=pipeline.name.replace("_", "-")),
        "set_up": _set_up(pipeline, profiles),
    }
    exec(compile(text, filename, "exec", dont_inherit=True), ns)  # noqa: S102 - our own text, values by repr only
    return ns[_PIPELINE]


_PIPELINE = "themisto_pipeline"


def as_python(pipeline: Pipeline) -> str:
    """The pipeline in kfp's language: a function for each step, and one that joins them."""
    kinds = {(task.name, name): _kind(task.kinds.get(name, "")) for task in pipeline.tasks for name in task.outputs}
    parts = [_component(task, pipeline.parameters, kinds) for task in pipeline.tasks]
    arguments = ", ".join(f"{n}: {type(v).__name__} = {v!r}" for n, v in pipeline.parameters.items())
    lines = ["@pipeline", f"def {_PIPELINE}({arguments}):"]
    for task in pipeline.tasks:
        given = [f"{n}={n}" for n in task.parameters]
        given += [f"{n}__in={_variable(step)}.outputs['{n}__out']" for n, step in task.inputs.items()]
        lines.append(f"    {_variable(task.name)} = {_function(task.name)}({', '.join(given)})")
        lines.append(f"    set_up({task.name!r}, {_variable(task.name)})")
    return "\n\n".join([*parts, "\n".join(lines)]) + "\n"


def _check_names(pipeline: Pipeline) -> None:
    seen: dict[str, str] = {}
    for task in pipeline.tasks:
        other = seen.setdefault(_function(task.name), task.name)
        if other != task.name:
            raise Invalid(f"The steps '{other}' and '{task.name}' are one name to Kubeflow.", "Rename one of them.")


def _component(task: Task, parameters: Mapping[str, Scalar], kinds: Mapping[tuple[str, str], str]) -> str:
    arguments = [f"{n}: {type(parameters[n]).__name__}" for n in task.parameters]
    arguments += [f"{n}__in: Input[{kinds[step, n]}]" for n, step in task.inputs.items()]
    arguments += [f"{n}__out: Output[{kinds[task.name, n]}]" for n in task.outputs]
    cast = ", ".join(f"{n!r}: {type(parameters[n]).__name__}({n})" for n in task.parameters)
    inputs = ", ".join(f"{n!r}: {n}__in.path" for n in task.inputs)
    outputs = ", ".join(f"{n!r}: {n}__out.path" for n in task.outputs)
    formats = {n: f for n, f in task.outputs.items() if f}
    return "\n".join(
        [
            "@component",
            f"def {_function(task.name)}({', '.join(arguments)}):",
            "    from themisto.pipelines.runner import run_step",
            "",
            "    run_step(",
            f"        name={task.name!r},",
            f"        definitions={_literal(task.definitions)},",
            f"        source={_literal(task.source)},",
            f"        parameters={{{cast}}},",
            f"        inputs={{{inputs}}},",
            f"        outputs={{{outputs}}},",
            f"        formats={formats!r},",
            f"        timeout_s={task.timeout_s!r},",
            f"        retries={task.retries!r},",
            f"        cache={task.cache!r},",
            "    )",
        ]
    )


def _set_up(pipeline: Pipeline, profiles: Mapping[str, Profile]) -> Callable[[str, Any], None]:
    tasks = {task.name: task for task in pipeline.tasks}

    def set_up(name: str, made: Any) -> None:
        """Give kfp's task what the step asked for."""
        task = tasks[name]
        made.set_display_name(name).set_caching_options(enable_caching=task.cache)
        if task.retries:
            made.set_retry(num_retries=task.retries, backoff_duration="10s", backoff_factor=2.0)
        profile = profiles.get(task.profile or "")
        if profile is not None:
            made.set_container_image(profile.images[0])
            made.set_cpu_limit(f"{profile.cpu:g}").set_memory_limit(f"{profile.memory_gib:g}Gi")
            for resource, count in gpu_resources(profile).items():
                made.set_accelerator_type(resource).set_accelerator_limit(count)

    return set_up


def gpu_resources(profile: Profile) -> dict[str, int]:
    """The profile's GPU as Kubernetes calls it: `nvidia.com/gpu`, or a MIG slice by its shape."""
    if profile.gpu is None:
        return {}
    name = f"nvidia.com/mig-{profile.gpu.mig}" if profile.gpu.mig else "nvidia.com/gpu"
    return {name: profile.gpu.count}


def _kind(format: str) -> str:
    return "Dataset" if format in _FRAMES else "Model" if format in _MODELS else "Artifact"


def _function(step: str) -> str:
    """A step's name as a Python name; kfp shows it with dashes again."""
    name = step.replace("-", "_")
    if not name.isidentifier():
        raise Invalid(f"'{step}' cannot name a step.", "Use lower-case letters, digits, '-' and '_'.")
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


_TAKEN = frozenset({"bool", "component", "float", "int", "str", "pipeline", "set_up", _PIPELINE, "run_step"})


def _variable(step: str) -> str:
    return f"{_function(step)}__task"


def _literal(text: str) -> str:
    """`text` as a Python literal over several lines, as one reads code."""
    plain = all(c.isprintable() or c in "\n\t" for c in text)
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if not text or not plain or text != text.strip() or text.endswith('"'):
        return repr(text)
    return f'"""{escaped}"""'
