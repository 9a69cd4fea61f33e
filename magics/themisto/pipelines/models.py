"""Steps and pipelines: what a cell needs and what it hands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import NonNegativeInt, PositiveFloat, StringConstraints

from themisto.types import Model, Slug

__all__ = [
    "Output",
    "Pipeline",
    "PythonName",
    "Scalar",
    "Step",
    "Task",
]

Scalar = bool | int | float | str
"""What a pipeline parameter may be."""

PythonName = Annotated[str, StringConstraints(pattern=r"^[^\W\d]\w{0,99}$")]
"""A variable's name."""


class Output(Model):
    """A variable that a step hands on. `format` is '' (chosen by its type) or `pickle`."""

    name: PythonName
    format: Literal["", "pickle"] = ""


class Step(Model):
    """A notebook cell marked as a step, as it was run.

    at: how many cells the notebook had run by then; definitions are looked up as of that moment.
    inputs, outputs: None where they are inferred.
    formats: how each variable the step wrote would travel; None for one that cannot.
    results: variables it left that are plain numbers, text or true/false.
    """

    name: Slug
    source: str
    at: NonNegativeInt
    inputs: tuple[PythonName, ...] | None = None
    outputs: tuple[Output, ...] | None = None
    formats: Mapping[str, str | None] = {}
    results: tuple[str, ...] = ()
    profile: Slug | None = None
    retries: NonNegativeInt = 0
    timeout_s: PositiveFloat | None = None
    cache: bool = True


class Task(Model):
    """A step in its pipeline, complete: nothing of the kernel is needed to run it.

    definitions: the imports, functions, classes and constants of the notebook that it refers to.
    parameters: names of the pipeline's parameters it reads.
    inputs: variable -> the step that hands it on. outputs: variable -> format ('' by type).
    kinds: variable -> how it last travelled, for the pipeline's drawing.
    """

    name: Slug
    source: str
    definitions: str
    parameters: tuple[PythonName, ...]
    inputs: Mapping[PythonName, Slug]
    outputs: Mapping[PythonName, str]
    kinds: Mapping[str, str]
    profile: Slug | None
    retries: NonNegativeInt
    timeout_s: PositiveFloat | None
    cache: bool


class Pipeline(Model):
    """The steps in the order they were first run. `parameters`: name -> default."""

    name: Slug
    parameters: Mapping[PythonName, Scalar]
    tasks: tuple[Task, ...]
