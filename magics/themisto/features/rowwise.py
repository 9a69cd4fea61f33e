"""SQL that looks at one row at a time: whatever rows come together, each has the same answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid

if TYPE_CHECKING:
    import duckdb

__all__ = ["LIMITS", "names_of", "one_row_at_a_time", "within_budget"]

LIMITS = {"memory_limit": "512MB", "threads": "1", "max_temp_directory_size": "0KB"}
"""What such SQL may use where it does not run in its author's own kernel."""

_BUDGET_S = 10.0
_STEPS = frozenset({"PROJECTION", "FILTER", "CTE", "CTE_SCAN"})
_SCAN = "ARROW_SCAN"
_CLOCKS = frozenset(
    (
        "current_date",
        "current_time",
        "current_timestamp",
        "current_localtime",
        "current_localtimestamp",
        "localtime",
        "localtimestamp",
    )
)
"""They may stand without parentheses, as columns do; DuckDB calls some of them steady."""


def one_row_at_a_time(con: duckdb.DuckDBPyConnection, sql: str, what: str) -> list[str]:
    """The steps of DuckDB's plan. Raises Invalid unless `sql` is one SELECT over the one registered table that
    computes each row by itself.

    what: how the SQL is called in the message. DuckDB's own plan says what a statement does: projections and filters
    over one scan are such; aggregates, windows, joins, sorting, limits and other sources are not. Neither are
    functions whose answer changes (`now()`, `random()`).
    """
    import duckdb

    try:
        statements = con.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise Invalid(f"{what} is not one SELECT.", "Write one SELECT that gives the columns of a row.")
        with within_budget(con, what):
            plan = con.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()[0][1]
    except duckdb.Error as error:
        raise does_not_run(what, error) from None
    steps = [step for root in json.loads(plan) for step in _steps(root)]
    others = sorted({s for s in steps if s not in _STEPS and not s.endswith(_SCAN)})
    if others or sum(s.endswith(_SCAN) for s in steps) != 1:
        told = ", ".join(s.lower().replace("_", " ") for s in others) or "another source or none"
        raise Invalid(
            f"{what} does not look at one row at a time ({told}).",
            "Compute each row from its own columns; over time: aggregates=[Aggregate(…)].",
        )
    changing = _changing(con, sql)
    if changing:
        raise Invalid(f"{what} uses {changing}, which answers differently each time.", "Use the event time.")
    return steps


def names_of(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[set[str], set[str], bool]:
    """Functions and columns that a SELECT names, and whether it has a `*`."""
    row = con.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    functions: set[str] = set()
    columns: set[str] = set()
    star = False
    stack: list[Any] = [json.loads(row[0])] if row else []
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            stack.extend(node.values())
            if node.get("class") == "FUNCTION":
                functions.add(str(node["function_name"]).lower())
            elif node.get("class") == "COLUMN_REF":
                columns.add(str(node["column_names"][-1]))
            star = star or node.get("class") == "STAR"
    return functions, columns, star


@contextmanager
def within_budget(con: duckdb.DuckDBPyConnection, what: str, seconds: float = _BUDGET_S) -> Iterator[None]:
    """Stop what does not end. Raises Invalid."""
    import duckdb

    timer = threading.Timer(seconds, con.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except duckdb.InterruptException:
        raise Invalid(f"{what} did not end within {seconds:g} s.", "Compute less a row.") from None
    finally:
        timer.cancel()


def does_not_run(what: str, error: Exception) -> Invalid:
    """DuckDB's first line, which names the column or function."""
    return Invalid(f"{what} does not run: {str(error).strip().splitlines()[0]}", "It sees the columns of one row.")


def _steps(node: dict[str, Any]) -> Iterator[str]:
    yield str(node["name"]).strip()
    for child in node["children"]:
        yield from _steps(child)


def _changing(con: duckdb.DuckDBPyConnection, sql: str) -> str | None:
    """A function whose answer is not of its arguments alone; some are written without parentheses."""
    functions, columns, _ = names_of(con, sql)
    found = con.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE list_contains(?, function_name) AND stability <> 'CONSISTENT'",
        [sorted(functions)],
    ).fetchall()
    clocks = _CLOCKS & (functions | {c.lower() for c in columns})
    return min([*(row[0] for row in found), *clocks], default=None)
