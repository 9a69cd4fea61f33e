"""Source: a function and what it leans on, as one module that runs by itself in the model server."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from themisto.errors import Invalid
from themisto.pipelines.scope import names_in

__all__ = ["ENTRY", "standalone"]

ENTRY = "predict"
_AVAILABLE = frozenset(sys.stdlib_module_names) | {"numpy", "pandas"}
_MAX_CONSTANT = 65_536
_BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__"}


def standalone(function: Callable[..., Any], entry: str = ENTRY) -> str:
    """Source of a module that defines `entry`: the function with its imports, helpers and constants.

    Raises Invalid, naming the name, for what has no way to travel: a value that only the kernel has,
    a package that the model server lacks, a lambda.
    """
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        raise Invalid("Only a function made with def can be deployed.", "Write it as def predict(df): …")
    if function.__closure__:
        inner = ", ".join(function.__code__.co_freevars)
        raise Invalid(
            f"'{function.__name__}' takes {inner} from the function around it.", "Define it at the top of a cell."
        )
    parts = _Parts(function.__globals__, function.__module__)
    parts.add(function.__name__, function, via="")
    last = "" if function.__name__ == entry else f"\n\n{entry} = {function.__name__}\n"
    return parts.text + last


class _Parts:
    """What the module is made of, dependencies before what needs them."""

    def __init__(self, namespace: Mapping[str, Any], home: str) -> None:
        self._namespace = namespace
        self._home = home
        self._imports: dict[str, str] = {}
        self._bodies: dict[str, str] = {}

    @property
    def text(self) -> str:
        imports = "\n".join(sorted(self._imports.values()))
        parts = ["from __future__ import annotations\n\n" + imports, *self._bodies.values()]
        return "\n\n\n".join(parts) + "\n"

    def add(self, name: str, value: Any, *, via: str) -> None:
        if name in self._bodies or name in self._imports:
            return
        if isinstance(value, ModuleType):
            self._imports[name] = self._import(name, value.__name__, None, via)
        elif callable(value) and getattr(value, "__module__", None) == self._home and hasattr(value, "__qualname__"):
            self._define(name, value)
        elif callable(value) and hasattr(value, "__qualname__") and getattr(value, "__module__", None):
            self._imports[name] = self._import(name, value.__module__, value.__qualname__, via)
        else:
            self._bodies[name] = _constant(name, value, via)

    def _define(self, name: str, value: Any) -> None:
        try:
            source = self._source(name, value)
            tree = ast.parse(source)
        except (OSError, TypeError, SyntaxError):
            raise Invalid(f"The source of '{name}' cannot be found.", "Run the cell that defines it again.") from None
        self._bodies[name] = ""  # it is on its way: functions may call each other
        for free in names_in(tree).free:
            if free in self._namespace:
                self.add(free, self._namespace[free], via=name)
            elif free not in _BUILTINS:
                raise Invalid(f"'{name}' uses '{free}', which is not defined.", "Define it in a cell before.")
        del self._bodies[name]  # after what it needs
        self._bodies[name] = source.strip()

    def _source(self, name: str, value: Any) -> str:
        """Functions of a notebook are found by their code; classes have none: by their cell. Raises as inspect does."""
        try:
            return textwrap.dedent(inspect.getsource(value))
        except (OSError, TypeError):
            if not isinstance(value, type):
                raise
        for cell in reversed(self._namespace.get("In", ())):  # all that ran, as IPython keeps it
            try:
                statements = ast.parse(cell).body
            except SyntaxError:
                continue
            for one in reversed(statements):
                if isinstance(one, ast.ClassDef) and one.name == name:
                    first = min([one.lineno, *(decorator.lineno for decorator in one.decorator_list)])
                    return "\n".join(cell.splitlines()[first - 1 : one.end_lineno])
        raise OSError(name)

    def _import(self, name: str, module: str, member: str | None, via: str) -> str:
        if module.partition(".")[0] not in _AVAILABLE:
            raise Invalid(
                f"'{via}' uses '{name}' of {module.partition('.')[0]}, which the model server does not have.",
                "A function may use the standard library, numpy and pandas; deploy a model of another library itself.",
            )
        if member is None:
            return f"import {module}" if module == name else f"import {module} as {name}"
        return f"from {module} import {member}" + ("" if member == name else f" as {name}")


def _constant(name: str, value: Any, via: str) -> str:
    text = repr(value)
    try:
        plain = len(text) <= _MAX_CONSTANT and ast.literal_eval(text) == value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        plain = False
    if not plain:
        raise Invalid(
            f"'{via}' leans on '{name}', a {type(value).__name__} that only this kernel has.",
            "Use a constant, or deploy the model itself and compute in the caller.",
        )
    return f"{name} = {text}"
