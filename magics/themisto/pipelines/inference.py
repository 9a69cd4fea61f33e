"""From recorded steps to a pipeline: inputs, outputs and definitions, and a refusal for what only the kernel has."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from themisto.errors import Invalid
from themisto.pipelines.models import Output, Pipeline, Scalar, Step, Task
from themisto.pipelines.notebook import Definition, Notebook
from themisto.pipelines.scope import Names, names_in, parse

__all__ = ["check", "infer"]

_GIVEN = frozenset(dir(builtins)) | {"__name__", "__doc__", "__builtins__", "display"}
_NOTEBOOK_ONLY = frozenset({"get_ipython", "In", "Out", "exit", "quit"})


def infer(name: str, steps: Sequence[Step], notebook: Notebook) -> Pipeline:
    """The pipeline that `steps` make, in their order.

    Raises Invalid for a step that needs a name which no earlier step hands on and no cell defines,
    and for a variable that has no way to travel.
    """
    flow = _Flow(notebook)
    for step in steps:
        flow.add(step)
    return flow.pipeline(name)


def check(step: Step, earlier: Sequence[Step], notebook: Notebook) -> None:
    """Raises Invalid where `step` leans on something only the kernel has; `earlier` are taken as they are."""
    flow = _Flow(notebook)
    for known in earlier:
        flow.hands_on(known)
    flow.needs_of(step)


@dataclass
class _Needs:
    """What one step takes from outside itself."""

    inputs: dict[str, str] = field(default_factory=dict)
    carried: dict[str, Definition] = field(default_factory=dict)
    scalars: dict[str, Scalar] = field(default_factory=dict)


class _Flow:
    """Who hands on which name, as steps are added."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._producers: dict[str, str] = {}
        self._withheld: dict[str, str] = {}
        self._read: dict[str, set[str]] = {}
        self._steps: list[tuple[Step, _Needs]] = []

    def add(self, step: Step) -> None:
        needs = self.needs_of(step)
        for name, producer in needs.inputs.items():
            self._read[producer].add(name)
        self._steps.append((step, needs))
        self.hands_on(step)

    def hands_on(self, step: Step) -> None:
        """From here on, names come from `step` where it writes them."""
        self._read.setdefault(step.name, set())
        written = _written(names_in(parse(step.source)), self._producers)
        given = written if step.outputs is None else {o.name for o in step.outputs}
        for name in written - given:
            self._withheld[name] = step.name
        for name in given:
            self._producers[name] = step.name
            self._withheld.pop(name, None)

    # what a step needs

    def needs_of(self, step: Step) -> _Needs:
        names = _python(step)
        needs = _Needs()
        for name in step.inputs or ():
            if name not in self._producers:
                raise Invalid(
                    f"No step before '{step.name}' hands on '{name}'.", "Make it in an earlier step, or leave out -i."
                )
            needs.inputs[name] = self._producers[name]
        for name in names.free:
            self._resolve(name, step, needs, via=())
        for name in sorted(names.maybe):
            self._resolve(name, step, needs, via=(), sure=False)
        return needs

    def _resolve(self, name: str, step: Step, needs: _Needs, *, via: tuple[str, ...], sure: bool = True) -> None:
        if name in needs.inputs or name in needs.carried or name in needs.scalars:
            return
        if name in self._producers and step.inputs is None:
            needs.inputs[name] = self._producers[name]
            return
        found = self._notebook.find(name, step.at)
        if found is not None and found.travels:
            self._carry(found, step, needs, via)
        elif sure and (found is not None or name not in _GIVEN):
            raise self._only_in_kernel(name, step, via)

    def _carry(self, found: Definition, step: Step, needs: _Needs, via: tuple[str, ...]) -> None:
        if found.scalar is not None:
            needs.scalars[found.name] = found.scalar
            return
        if found.name in via:  # functions that call each other
            return
        for need in found.needs:
            self._resolve(need, step, needs, via=(*via, found.name))
        needs.carried[found.name] = found

    def _only_in_kernel(self, name: str, step: Step, via: tuple[str, ...]) -> Invalid:
        through = f" (through {' -> '.join(f'{v!r}' for v in via)})" if via else ""
        if name in _NOTEBOOK_ONLY:
            return _notebook_only(step.name, f"'{name}'{through}")
        if name in self._withheld:
            return Invalid(
                f"Step '{step.name}' reads '{name}'{through}, which step '{self._withheld[name]}' does not hand on.",
                f"Add -o {name} to step '{self._withheld[name]}'.",
            )
        return Invalid(
            f"Step '{step.name}' leans on '{name}'{through}, which only this kernel has.",
            "Make it in an earlier step, or define it in a cell as an import, a function, a class or a constant.",
        )

    # the pipeline

    def pipeline(self, name: str) -> Pipeline:
        parameters: dict[str, Scalar] = {}
        for _, needs in self._steps:
            parameters |= needs.scalars
        tasks = tuple(self._task(step, needs) for step, needs in self._steps)
        return Pipeline(name=name, parameters=parameters, tasks=tasks)

    def _task(self, step: Step, needs: _Needs) -> Task:
        outputs = self._outputs(step)
        for output in outputs:
            if not output.format and step.formats.get(output.name, "") is None:
                raise Invalid(
                    f"'{output.name}', which step '{step.name}' hands on, has no format to travel in.",
                    f"Hand on a DataFrame, a model or plain data instead, or say -o {output.name}:pickle.",
                )
        return Task(
            name=step.name,
            source=step.source,
            definitions="\n\n".join(self._definitions(needs)),
            parameters=tuple(sorted(needs.scalars)),
            inputs=dict(sorted(needs.inputs.items())),
            outputs={o.name: o.format for o in outputs},
            kinds={o.name: o.format or step.formats.get(o.name) or "" for o in outputs},
            profile=step.profile,
            retries=step.retries,
            timeout_s=step.timeout_s,
            cache=step.cache,
        )

    def _outputs(self, step: Step) -> list[Output]:
        """As told; else what later steps read; else, for a step nobody reads from, its plain results."""
        if step.outputs is not None:
            return list(step.outputs)
        names = sorted(self._read[step.name]) or sorted(step.results)
        return [Output(name=name) for name in names]

    def _definitions(self, needs: _Needs) -> list[str]:
        """Dependencies first, each text once."""
        texts = [*self._notebook.future, *(d.text for d in needs.carried.values())]
        return list(dict.fromkeys(texts))


def _python(step: Step) -> Names:
    """The names of a step that is plain Python. Raises Invalid for another."""
    try:
        return names_in(ast.parse(step.source))
    except SyntaxError as error:
        problem = error
    try:
        parse(step.source)
    except SyntaxError:
        told = f"Step '{step.name}' is not Python: {problem.msg}, line {problem.lineno}."
        raise Invalid(told, "Mend that line.") from None
    raise _notebook_only(step.name, "a magic or a shell command")


def _notebook_only(step: str, what: str) -> Invalid:
    return Invalid(
        f"Step '{step}' uses {what}, and a pipeline has no notebook.", "Move it into a cell before the step."
    )


def _written(names: Names, known: Mapping[str, str]) -> set[str]:
    """What a step leaves behind: values it bound, and those it was given and changed in place."""
    return set(names.writes) | {name for name in names.mutates if name in known}
