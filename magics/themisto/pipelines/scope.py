"""Which names a piece of code takes from around it, and which it leaves behind (by AST, without running it)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from themisto.pipelines.walker import Walker

__all__ = ["Names", "names_in", "parse"]


@dataclass(frozen=True)
class Names:
    """What code at the top level of a cell does with names.

    free: read before the code can have bound them, in order of appearance.
    maybe: read where only some paths have bound them.
    writes: bound to values when it ends. defines: bound by import, def or class.
    mutates: changed in place (`df["x"] = …`, `model.fit(…)`, `inplace=True`).
    """

    free: tuple[str, ...]
    maybe: frozenset[str]
    writes: frozenset[str]
    defines: frozenset[str]
    mutates: frozenset[str]


def parse(source: str) -> ast.Module:
    """The tree of a cell; lines with magics or shell commands count as empty. Raises SyntaxError."""
    try:
        return ast.parse(source)
    except SyntaxError:
        lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
        return ast.parse("\n".join(lines))


def names_in(code: ast.Module | ast.stmt | Sequence[ast.stmt]) -> Names:
    """The names of one cell, statement or list of statements.

    >>> names_in(ast.parse("df = load(path); n = len(df)")).free
    ('load', 'path', 'len')
    """
    walker = Walker()
    if isinstance(code, ast.Module):
        walker.block(code.body)
    else:
        walker.block([code] if isinstance(code, ast.stmt) else code)
    walker.finish()
    return Names(
        free=tuple(walker.free),
        maybe=frozenset(walker.maybe) - set(walker.free),
        writes=frozenset(walker.values & walker.possible),
        defines=frozenset(walker.defined & walker.possible),
        mutates=frozenset(walker.mutated),
    )
