"""The walk behind `scope`: statements in order, with what is bound on every path and on some."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Walker"]

_MUTATORS = frozenset(
    {"add", "append", "clear", "discard", "extend", "fit", "insert", "partial_fit", "pop", "popitem"}
    | {"remove", "reverse", "setdefault", "sort", "update"}
)
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Walker(ast.NodeVisitor):
    """Walks statements in order, keeping which names are bound on every path and which on some."""

    def __init__(self) -> None:
        self.definite: set[str] = set()
        self.possible: set[str] = set()
        self.values: set[str] = set()
        self.defined: set[str] = set()
        self.mutated: set[str] = set()
        self.free: dict[str, None] = {}
        self.maybe: set[str] = set()
        self._hidden: list[set[str]] = []
        self._deferred: set[str] = set()

    def finish(self) -> None:
        """Functions run later: what they read may have been bound after them."""
        for name in sorted(self._deferred):
            self._read(name)

    def block(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    # names

    def _read(self, name: str) -> None:
        if name in self.definite or any(name in scope for scope in self._hidden):
            return
        if name in self.possible:
            self.maybe.add(name)
        else:
            self.free.setdefault(name)

    def _bind(self, name: str, *, value: bool = True) -> None:
        self.definite.add(name)
        self.possible.add(name)
        (self.values if value else self.defined).add(name)

    def _unbind(self, name: str) -> None:
        self.definite.discard(name)
        self.possible.discard(name)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        elif isinstance(node.ctx, ast.Store):
            if not any(node.id in scope for scope in self._hidden):
                self._bind(node.id)
        else:
            self._read(node.id)
            self._unbind(node.id)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target.id)

    # what changes in place

    def _mutate(self, target: ast.expr) -> None:
        root: ast.AST = target
        while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name) and not any(root.id in scope for scope in self._hidden):
            self.mutated.add(root.id)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._mutate(node)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._mutate(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        in_place = any(k.arg == "inplace" and _is_true(k.value) for k in node.keywords)
        if isinstance(node.func, ast.Attribute) and (in_place or node.func.attr in _MUTATORS):
            self._mutate(node.func.value)
        self.generic_visit(node)

    # statements whose order is not that of their fields

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.partition(".")[0], value=False)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                self._bind(alias.asname or alias.name, value=False)

    def visit_Global(self, node: ast.Global) -> None:
        """At the top level it says nothing."""

    # branches

    def _paths(self, blocks: Sequence[Sequence[ast.stmt]], *, complete: bool) -> None:
        before = set(self.definite)
        ends = [] if complete else [before]
        for body in blocks:
            self.definite = set(before)
            self.block(body)
            if not (body and isinstance(body[-1], ast.Raise | ast.Break | ast.Continue)):
                ends.append(self.definite)
        self.definite = set.intersection(*ends) if ends else before

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._paths([node.body, node.orelse], complete=True)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        before = set(self.definite)
        self.visit(node.target)
        self.block(node.body)
        self.definite = before
        self.block(node.orelse)

    visit_AsyncFor = visit_For  # noqa: N815 - named by ast

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._paths([node.body], complete=False)
        self.block(node.orelse)

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        handlers = [[_Caught(handler)] for handler in node.handlers]
        self._paths([[*node.body, *node.orelse], *handlers], complete=True)
        self.block(node.finalbody)

    visit_TryStar = visit_Try  # noqa: N815 - named by ast

    def visit__Caught(self, node: _Caught) -> None:
        if node.handler.type is not None:
            self.visit(node.handler.type)
        if node.handler.name:
            self._bind(node.handler.name)
        self.block(node.handler.body)
        if node.handler.name:
            self._unbind(node.handler.name)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        self._paths([[_Case(case)] for case in node.cases], complete=False)

    def visit__Case(self, node: _Case) -> None:
        for part in ast.walk(node.case.pattern):
            if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
                self._bind(part.name)
            elif isinstance(part, ast.MatchMapping) and part.rest:
                self._bind(part.rest)
        self.generic_visit(node.case.pattern)
        if node.case.guard is not None:
            self.visit(node.case.guard)
        self.block(node.case.body)

    # scopes of their own

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._function(node)
        self._bind(node.name, value=False)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - named by ast

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)

    def _function(self, node: _Function) -> None:
        for part in _read_at_definition(node):
            self.visit(part)
        reads, writes = _inside(node)
        self._deferred |= {name for name in reads if not any(name in scope for scope in self._hidden)}
        self.possible |= writes
        self.values |= writes

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *(k.value for k in node.keywords)):
            self.visit(part)
        inner = Walker()
        inner.block(node.body)
        for name in inner.free:
            self._read(name)
        self._deferred |= inner._deferred
        self._bind(node.name, value=False)

    def _comprehension(self, node: _Comprehension) -> None:
        self.visit(node.generators[0].iter)
        targets = {
            n.id
            for g in node.generators
            for n in ast.walk(g.target)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        self._hidden.append(targets)
        for number, generator in enumerate(node.generators):
            if number:
                self.visit(generator.iter)
            self.visit(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        parts = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        for part in parts:
            self.visit(part)
        self._hidden.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815 - named by ast


class _Caught(ast.stmt):
    """An except clause as a block of its own."""

    def __init__(self, handler: ast.ExceptHandler) -> None:
        self.handler = handler


class _Case(ast.stmt):
    """A case clause as a block of its own."""

    def __init__(self, case: ast.match_case) -> None:
        self.case = case


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _read_at_definition(node: _Function) -> Iterator[ast.expr]:
    """Decorators, defaults and annotations: evaluated where the function is defined."""
    yield from node.args.defaults
    yield from (d for d in node.args.kw_defaults if d is not None)
    if isinstance(node, ast.Lambda):
        return
    yield from node.decorator_list
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
    yield from (a.annotation for a in every if a is not None and a.annotation is not None)
    if node.returns is not None:
        yield node.returns


def _inside(node: _Function) -> tuple[set[str], set[str]]:
    """Names a function's body reads from outside, and those it binds there by `global`."""
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
    local = {a.arg for a in every if a is not None}
    body: list[ast.stmt] = [ast.Expr(node.body)] if isinstance(node, ast.Lambda) else node.body
    inner = Walker()
    inner.block(body)
    declared = {n for s in _own(body) if isinstance(s, ast.Global | ast.Nonlocal) for n in s.names}
    globally = {n for s in _own(body) if isinstance(s, ast.Global) for n in s.names}
    local |= (inner.values | inner.defined) - declared
    reads = (set(inner.free) | inner.maybe | inner._deferred) - local
    return reads, globally & inner.possible


def _own(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a body, without those of functions and classes inside it."""
    for node in body:
        yield node
        if not isinstance(node, _Function | ast.ClassDef):
            yield from _own(ast.iter_child_nodes(node))
