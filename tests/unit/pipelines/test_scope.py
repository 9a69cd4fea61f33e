"""Names a cell takes and leaves, held against what Python itself does."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from themisto.pipelines.scope import names_in


@pytest.mark.parametrize(
    ("source", "free"),
    [
        ("df = df.dropna()", {"df"}),
        ("x = 1\ny = x", set()),
        ("def f(a, b=k): return a + g\nh = f(1)", {"k", "g"}),
        ("def f(): return k\nk = 1\nf()", set()),
        ("[i for i in rows if i > limit]", {"rows", "limit"}),
        ("class A(Base):\n    x = y\n    def m(self): return later\nlater = 1", {"Base", "y"}),
        ("import pandas as pd\npd.DataFrame()", set()),
        ("with open(p) as f: t = f.read()", {"open", "p"}),
        ("try:\n    x = risky\nexcept Error as e:\n    x = e\nprint(x)", {"risky", "Error", "print"}),
        ("f'{a:{w}}'", {"a", "w"}),
        ("match v:\n    case {'k': x, **rest}: y = (x, rest)", {"v"}),
        ("total += 1", {"total"}),
        ("lambda q: q + w", {"w"}),
        ("if (n := size) > 1: m = n", {"size"}),
        ("for i in r: pass\nelse: z = i", {"r"}),
    ],
)
def test_free_names_are_those_read_before_they_are_bound(source: str, free: set[str]) -> None:
    assert set(names_in(ast.parse(source)).free) == free


def test_a_name_bound_on_some_paths_only_is_maybe() -> None:
    names = names_in(ast.parse("if c:\n    x = 1\nprint(x)"))
    assert names.maybe == {"x"}
    assert "x" not in names.free


@pytest.mark.parametrize(
    "source", ["df['x'] = 1", "df.loc[m, 'x'] = 1", "df.x = 1", "df.drop(columns='y', inplace=True)", "df.append(1)"]
)
def test_changes_in_place_are_seen(source: str) -> None:
    assert "df" in names_in(ast.parse(source)).mutates


def test_definitions_are_told_from_values() -> None:
    names = names_in(ast.parse("import os\ndef f(): pass\nclass C: pass\nx = f()"))
    assert names.defines == {"os", "f", "C"}
    assert names.writes == {"x"}


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_EXPRESSIONS = st.recursive(
    st.one_of(_NAMES, st.integers(0, 9).map(str)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: f"({p[0]} + {p[1]})"),
        st.tuples(inner, _NAMES, inner).map(lambda p: f"sum({p[0]} for {p[1]} in [{p[2]}])"),
        st.tuples(_NAMES, inner).map(lambda p: f"(lambda {p[0]}: {p[0]})({p[1]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
    ),
    max_leaves=5,
)
_STATEMENTS = st.recursive(
    st.one_of(
        st.tuples(_NAMES, _EXPRESSIONS).map(lambda p: f"{p[0]} = {p[1]}"),
        st.tuples(_NAMES, _EXPRESSIONS).map(lambda p: f"{p[0]} += {p[1]}"),
    ),
    lambda inner: st.one_of(
        st.tuples(_EXPRESSIONS, inner, inner).map(lambda p: f"if {p[0]}:\n{_indent(p[1])}\nelse:\n{_indent(p[2])}"),
        st.tuples(_NAMES, inner).map(lambda p: f"for {p[0]} in [0, 1]:\n{_indent(p[1])}"),
        st.tuples(inner, inner).map("\n".join),
    ),
    max_leaves=6,
)


def _indent(block: str) -> str:
    return "\n".join(f"    {line}" for line in block.splitlines())


class _Traced(dict[str, Any]):
    """A namespace that notes which names were read before they were written."""

    def __init__(self) -> None:
        super().__init__()
        self.missed: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self and name in "abcd":
            self.missed.add(name)
            return 1
        return super().__getitem__(name)


@settings(max_examples=300, deadline=None)
@given(_STATEMENTS)
def test_every_name_python_misses_was_inferred(source: str) -> None:
    ns = _Traced()
    exec(compile(source, "<fuzz>", "exec"), {**dict.fromkeys("abcd", 1)}, ns)
    found = names_in(ast.parse(source))
    assert ns.missed <= set(found.free) | found.maybe
    assert {n for n in ns if n in "abcd"} <= found.writes
