"""What all magics share: parsing a line, running a cell's body, telling errors to a person, `%themisto`."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from themisto import completing
from themisto.errors import Invalid, NotFound, ThemistoError, did_you_mean
from themisto.workbench import Workbench, workbench

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["LineParser", "ThemistoMagics", "VerbMagics", "key_values", "register", "variable"]

_VERBS = {
    "track": "themisto.tracking.magic",
    "features": "themisto.features.magic",
    "step": "themisto.pipelines.magic",
    "pipeline": "themisto.pipelines.magic",
    "deploy": "themisto.serving.magic",
    "schedule": "themisto.schedules.magic",
}


_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)
"""What argparse says of a word that is none of its choices."""
_MISSING = re.compile(r"the following arguments are required: (.*)", re.DOTALL)


class LineParser(argparse.ArgumentParser):
    """argparse for a magic's line: a mistake is a UsageError, never an exit."""

    def __init__(self, prog: str, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=prog, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does it; what is too much is told by the verb that it was said to, and before what is missing."""
        if not self.verbs():
            self._check_options(args or ())
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            raise UsageError(f"{self.prog} takes no '{extra[0]}'. {self._written()}")
        return found, extra

    def _check_options(self, words: Sequence[str]) -> None:
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            if name.startswith("--") and not any(known.startswith(name) for known in self._option_string_actions):
                near = did_you_mean(name, self.options(), self._written())
                raise UsageError(f"{self.prog} has no option {name}. {near}")

    def options(self) -> list[str]:
        """What may be said by name, but for --help."""
        return [o for o in self._option_string_actions if o.startswith("--") and o != "--help"]

    def verbs(self) -> Mapping[str, LineParser]:
        """What its first word may be, and what reads the rest."""
        return {name: parser for action in self._verbs() for name, parser in action.choices.items()}

    def _verbs(self) -> list[argparse._SubParsersAction[LineParser]]:
        return [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]

    def takes_value(self, option: str) -> bool:
        """Whether the word after `option` belongs to it."""
        action = self._option_string_actions.get(option)
        return action is not None and action.nargs != 0

    def grammar(self) -> str:
        """All that can be said to it, verb by verb: what `%NAME?` shows."""
        if not self.verbs():
            return self.format_help().replace(self.format_usage(), f"{self._line()}\n", 1)
        said = {one.dest: one.help or "" for action in self._verbs() for one in action._choices_actions}
        lines = [f"{parser._line()}\n    {said.get(verb, '')}".rstrip() for verb, parser in self.verbs().items()]
        return "\n".join([self.description or "", "", *lines])

    def _line(self) -> str:
        """How its line is written."""
        return " ".join(self.format_usage().split()).removeprefix("usage: ").replace(" [-h]", "")

    def _written(self) -> str:
        return f"Write {self._line()}, or see {self.prog} --help."

    def error(self, message: str) -> NoReturn:
        wrong, missing = _CHOICE.search(message), _MISSING.search(message)
        if missing is not None:
            needed = "a verb" if " | " in missing[1] else missing[1]
            raise UsageError(f"{self.prog} needs {needed}. {self._written()}")
        if wrong is None:
            raise UsageError(f"{self.prog}: {message}. {self._written()}")
        known = re.findall(r"[\w.-]+", wrong[2])
        near = difflib.get_close_matches(wrong[1], known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
        raise UsageError(f"{self.prog} knows no '{wrong[1]}'. {hint}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _HelpShown

    def parse_line(self, line: str) -> argparse.Namespace:
        """Split as a shell would (quotes, no expansion) and parse."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"The line cannot be read: {error}. Close the quote.") from None
        return self.parse_args(words)


class _HelpShown(Exception):
    """`--help` printed its text; there is nothing left to do."""


def variable(ns: Mapping[str, Any], name: str) -> Any:
    """The notebook variable called `name`.

    Raises NotFound with the nearest names, so that a typo is mended in one look.
    """
    if name in ns:
        return ns[name]
    near = difflib.get_close_matches(name, [n for n in ns if not n.startswith("_")], n=3)
    hint = f"Did you mean {', '.join(near)}?" if near else "Run the cell that defines it first."
    raise NotFound(f"There is no variable '{name}' in this notebook.", hint)


def key_values(pairs: Iterable[str]) -> dict[str, str]:
    """`["a=1", "b=x"]` as a dict. Raises Invalid for a pair without `=`."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise Invalid(f"'{pair}' is not KEY=VALUE.", "Write for example lr=0.1, without spaces around '='.")
        found[key] = value
    return found


@contextmanager
def _told_to_a_person() -> Iterator[None]:
    """Ours become UsageErrors: one sentence on what is wrong, one on what to do, no traceback."""
    try:
        yield
    except ThemistoError as error:
        raise UsageError(str(error)) from None
    except _HelpShown:
        return


@magics_class
class VerbMagics(Magics):
    """Base of each verb's magics: `answer` parses the line, calls the handler, tells errors."""

    shell: Any  # IPython's own annotation allows None, which no loaded extension meets

    def __init__(self, shell: InteractiveShell, wb: Workbench | None = None) -> None:
        super().__init__(shell)
        self._wb = wb

    @property
    def parsers(self) -> Mapping[str, Sequence[LineParser]]:
        """By magic: what reads its line, and its cell's first one."""
        return {}

    @property
    def wb(self) -> Workbench:
        return self._wb or workbench()

    @property
    def ns(self) -> dict[str, Any]:
        """The notebook's variables."""
        ns: dict[str, Any] = self.shell.user_ns
        return ns

    def answer(self, parser: LineParser, line: str, cell: str | None = None) -> Any:
        """Parse `line` and call the `handler` its parser set: `handler(self, args, cell)`."""
        with _told_to_a_person():
            args = parser.parse_line(line)
            return args.handler(self, args, cell)

    def run_body(self, cell: str) -> Any:
        """Run the cell's body in the notebook's namespace; the value of its last expression, or None.

        Exceptions of the body travel as they are, with the cell's own traceback.
        """
        source = self.shell.transform_cell(cell)
        name = self.shell.compile.cache(source, self.shell.execution_count, raw_code=cell)
        tree = self.shell.compile.ast_parse(source, filename=name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        ns = self.shell.user_ns
        if tree.body:
            exec(self.shell.compile(tree, name, "exec"), ns)  # noqa: S102 - running her cell is what a cell magic is for
        if last is None:
            return None
        return eval(self.shell.compile(ast.Expression(last.value), name, "eval"), ns)  # noqa: S307 - as above


_THEMISTO = LineParser("%themisto", description="Who you are, what you may use, and how the workbench does.")
_THEMISTO.add_argument(
    "what", nargs="?", default="status", choices=["status", "whoami", "profiles", "budget", "doctor"]
)
_THEMISTO.set_defaults(handler=lambda magics, args, cell: getattr(magics.about, args.what)())


@magics_class
class ThemistoMagics(VerbMagics):
    """`%themisto [status | whoami | profiles | budget | doctor]`."""

    @property
    def about(self) -> Any:
        from themisto.about import About

        return About(self.wb)

    @line_magic
    def themisto(self, line: str) -> Any:
        """Who you are, what you may use, and how the workbench does."""
        return self.answer(_THEMISTO, line)


def register(shell: InteractiveShell) -> None:
    """Register `%themisto` now and each verb as a door that opens on first use.

    A verb's module is imported when its magic is first called or completed, so loading costs little.
    """
    shell.register_magics(ThemistoMagics(shell))
    for name, module in _VERBS.items():
        _register_door(shell, name, module)


class _traceback_of_the_cell:  # noqa: N801 - used like a function
    """What her cell raises is shown from her cell on; our frames before it would only be in the way."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        __tracebackhide__ = True
        if error is None:
            return
        while trace is not None and _is_ours(trace):
            trace = trace.tb_next
        if trace is not None:
            raise error.with_traceback(trace)


def _is_ours(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in ("themisto", "contextlib")


def _register_door(shell: Any, name: str, module: str) -> None:
    def open_door() -> Any:
        magics: VerbMagics | None = shell.__dict__.setdefault("_themisto", {}).get(module)
        if magics is None:
            magics = importlib.import_module(module).MAGICS(shell)
            shell.__dict__["_themisto"][module] = magics
        return magics

    def line_door(line: str) -> Any:
        __tracebackhide__ = True
        with _traceback_of_the_cell():
            return getattr(open_door(), name)(line)

    def cell_door(line: str, cell: str) -> Any:
        __tracebackhide__ = True
        with _traceback_of_the_cell():
            return getattr(open_door(), name)(line, cell)

    def complete(words: Sequence[str]) -> Iterable[str]:
        found: Iterable[str] = open_door().complete(name, words)
        return found

    def grammar() -> str:
        return "\n\n".join(parser.grammar() for parser in open_door().parsers[name])

    line_door.__doc__ = cell_door.__doc__ = f"Type %{name}? to see all that it takes."
    for door in (line_door, cell_door):
        door.__dict__["getdoc"] = grammar  # where IPython looks before it looks at the docstring
    shell.register_magic_function(line_door, "line", name)
    shell.register_magic_function(cell_door, "cell", name)
    completing.add(shell, name, complete)
