"""A SQL cell: it sees the frames it names and registered views, nothing else.

No files, no network, no settings: DuckDB runs in memory with external access off, its
configuration locked, and only what the statement names registered.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from themisto.errors import Invalid, NotFound
from themisto.features.engine import Bounds, connected, scratch, watched

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["answer", "locked", "query"]

_T = TypeVar("_T")

_LOCKED: dict[str, Any] = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}


def locked(*first: str, **settings: str) -> duckdb.DuckDBPyConnection:
    """A connection for SQL that a person wrote: it reaches nothing but what is registered with it, in UTC.

    first: statements of ours to begin with; what they set stays.
    """
    con = connected(_LOCKED | settings)
    for statement in ("SET explain_output = 'all'", *first, "SET lock_configuration = true"):
        con.execute(statement)
    return con


def query(
    sql: str,
    frames: Mapping[str, Any],
    source: Callable[[str], Any | None] = lambda _: None,
    *,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    what: str = "The SQL",
) -> pd.DataFrame:
    """The answer of one SELECT.

    frames: what may be named; DataFrames, polars frames and Arrow tables are tables, the rest is not.
    source: asked for names that are no frame (a registered view's rows), None if it knows none.
    Raises Invalid for anything but one SELECT, NotFound for an unknown table, Refused for what does not end.
    """
    found: pd.DataFrame = answer(sql, frames, source, lambda found: found.df(), bounds=bounds, what=what)
    return found


def answer(
    sql: str,
    frames: Mapping[str, Any],
    source: Callable[[str], Any | None],
    taken: Callable[[duckdb.DuckDBPyRelation], _T],
    *,
    bounds: Bounds,
    what: str = "The SQL",
) -> _T:
    """What `taken` makes of the answer of one SELECT. Raises as `query` does."""
    import duckdb

    with scratch(bounds) as folder, locked(**bounds.config(folder)) as con:
        try:
            statements = con.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise Invalid(f"{what} is not one SELECT.", "Write one statement that gives keys and time.")
            names = _names(sql)
        except duckdb.Error as error:
            raise _invalid(error, what) from None
        for name in sorted(names):
            con.register(name, _table(name, frames, source))
        try:
            return watched(con, lambda: taken(con.sql(sql)), what=what, bounds=bounds, budget_s=bounds.budget_s)
        except duckdb.Error as error:
            raise _invalid(error, what) from None


def _names(sql: str) -> set[str]:
    """The tables that a statement names; DuckDB's own answer wants the columns of a JOIN … USING, which it lacks."""
    import duckdb

    with locked() as con:
        try:
            return set(con.get_table_names(sql))
        except duckdb.BinderException:
            pass
    with locked() as con:  # the other one does not recover
        row = con.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tables: set[str] = set()
    own: set[str] = set()
    stack: list[Any] = [json.loads(row[0])] if row else []
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            stack.extend(node.values())
            if node.get("type") == "BASE_TABLE":
                tables.add(str(node["table_name"]))
            own |= {str(entry["key"]) for entry in (node.get("cte_map") or {}).get("map", ())}
    return tables - own


def _table(name: str, frames: Mapping[str, Any], source: Callable[[str], Any | None]) -> Any:
    frame = frames.get(name)
    if frame is not None and type(frame).__name__ in ("DataFrame", "LazyFrame", "Table", "RecordBatch"):
        return frame
    found = source(name)
    if found is not None:
        return found
    known = [n for n, v in frames.items() if type(v).__name__ in ("DataFrame", "Table") and not n.startswith("_")]
    near = difflib.get_close_matches(name, known, n=3) or known[:5]
    hint = f"DataFrames here: {', '.join(near)}." if near else "Make a DataFrame of it first."
    raise NotFound(f"The SQL names '{name}', which is no DataFrame and no view.", hint)


def _invalid(error: Exception, what: str) -> Invalid:
    first = str(error).strip().splitlines()[0].rstrip("!.")
    return Invalid(f"{what} does not run: {first}.", "It sees the DataFrames it names and views, nothing else.")
