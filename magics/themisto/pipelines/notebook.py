"""What a notebook defines: for each name, the statement that last bound it, found in the cells that ran."""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from themisto.pipelines.models import Scalar
from themisto.pipelines.scope import names_in, parse

__all__ = ["Definition", "Notebook"]

Kind = Literal["import", "function", "class", "constant", "block", "value"]

_RUN_HERE = frozenset({"capture", "deploy", "prun", "step", "time", "track"})
"""Cell magics that run their body in the notebook."""

_CONSTANT_NODES = (
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.UnaryOp,
    ast.BinOp,
    ast.Compare,
    ast.BoolOp,
    ast.IfExp,
    ast.JoinedStr,
    ast.FormattedValue,
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Slice,
    ast.expr_context,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)


@dataclass(frozen=True)
class Definition:
    """One binding of a name. `kind` is `value` where only the kernel has what it stands for.

    at: number of the cell. needs: the names it refers to. scalar: the value of a plain constant.
    """

    name: str
    kind: Kind
    at: int
    text: str = ""
    needs: tuple[str, ...] = ()
    scalar: Scalar | None = None

    @property
    def travels(self) -> bool:
        return self.kind != "value"


@dataclass
class Notebook:
    """The cells that ran, in order, indexed by the names they bind."""

    cells: Sequence[str]
    future: list[str] = field(default_factory=list)
    _bindings: dict[str, list[Definition]] = field(default_factory=dict)
    _stars: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, cell in enumerate(self.cells):
            for source, is_step in _bodies(cell):
                self._index(number, source, is_step=is_step)

    def find(self, name: str, at: int) -> Definition | None:
        """What `name` stands for: its newest binding, or the one as of cell `at` where the newest is only a value."""
        found = self._bindings.get(name, [])
        newest = found[-1] if found else None
        if newest is not None and newest.travels:
            return newest
        by_then = [d for d in found if d.at < at]
        if by_then and by_then[-1].travels:
            return by_then[-1]
        return newest or self._starred(name)

    def _index(self, number: int, source: str, *, is_step: bool) -> None:
        try:
            tree = parse(source)
        except SyntaxError:
            return
        lines = source.splitlines()
        for position, statement in enumerate(tree.body):
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                self.future.append(ast.unparse(statement))
            elif isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                self._stars.append((statement.module or "", ast.unparse(statement)))
            else:
                text = _text(lines, tree.body, position)
                for definition in _definitions(statement, number, text):
                    if definition.kind not in ("constant", "value", "block") or not is_step:
                        self._bindings.setdefault(definition.name, []).append(definition)
                self._changed(statement, number, is_step=is_step)

    def _changed(self, statement: ast.stmt, number: int, *, is_step: bool) -> None:
        """A constant that is changed in place is one no more."""
        for name in names_in(statement).mutates:
            found = self._bindings.get(name)
            if found and found[-1].kind == "constant" and not is_step:
                found.append(Definition(name, "value", number))

    def _starred(self, name: str) -> Definition | None:
        for module, text in reversed(self._stars):
            if hasattr(sys.modules.get(module), name):
                return Definition(name, "import", 0, text)
        return None


def _bodies(cell: str) -> Iterator[tuple[str, bool]]:
    """The Python a cell runs, and whether it is a step's: the cell itself, or the body of its cell magic."""
    try:
        tree = parse(cell)
    except SyntaxError:
        return
    for statement in tree.body:
        match statement:
            case ast.Expr(
                ast.Call(ast.Attribute(attr="run_cell_magic"), [ast.Constant(str(magic)), _, ast.Constant(str(body))])
            ):
                if magic in _RUN_HERE:
                    yield body, magic == "step"
                return
    yield cell, False


def _definitions(statement: ast.stmt, number: int, text: str) -> Iterator[Definition]:
    names = names_in(statement)
    needs = (*names.free, *sorted(names.maybe))
    match statement:
        case ast.Import() | ast.ImportFrom():
            for alias in statement.names:
                name = alias.asname or alias.name.partition(".")[0]
                yield Definition(name, "import", number, _one_import(statement, alias))
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield Definition(statement.name, "function", number, text, needs)
        case ast.ClassDef():
            yield Definition(statement.name, "class", number, text, needs)
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ) if _is_constant(value):
            yield Definition(name, "constant", number, text, needs, _scalar(value))
        case ast.Try() | ast.If() if _only_defines(statement):
            for name in sorted(names.defines | names.writes):
                yield Definition(name, "block", number, text, needs)
        case _:
            for name in sorted(names.writes | names.defines):
                yield Definition(name, "value", number)


def _one_import(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    if isinstance(statement, ast.Import):
        return ast.unparse(ast.Import([alias]))
    return ast.unparse(ast.ImportFrom(statement.module, [alias], statement.level))


def _is_constant(value: ast.expr) -> bool:
    """Literals, and what operators make of them and of other names: nothing is called."""
    return all(isinstance(node, _CONSTANT_NODES) for node in ast.walk(value))


def _scalar(value: ast.expr) -> Scalar | None:
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError):
        return None
    if isinstance(found, float) and not math.isfinite(found):
        return None
    return found if isinstance(found, bool | int | float | str) else None


def _only_defines(statement: ast.Try | ast.If) -> bool:
    """Whether an if or try does nothing but import, define and set constants (an import with a fallback)."""
    for node in ast.walk(statement):
        if isinstance(node, ast.stmt) and node is not statement:
            match node:
                case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef() | ast.Pass():
                    continue
                case ast.Assign(value=value) if _is_constant(value):
                    continue
                case ast.If() | ast.Try():
                    continue
                case _:
                    return False
    return any(isinstance(n, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef) for n in ast.walk(statement))


def _text(lines: Sequence[str], body: Sequence[ast.stmt], position: int) -> str:
    """The statement as she wrote it, comments included; unparsed where it shares a line with another."""
    statement = body[position]
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(d.lineno for d in decorators)])
    last = statement.end_lineno or first
    before = body[position - 1].end_lineno if position else 0
    after = body[position + 1].lineno if position + 1 < len(body) else len(lines) + 1
    if before == first or after == last or lines[first - 1][:1].isspace():
        return ast.unparse(statement)
    return "\n".join(lines[first - 1 : last])
