"""On-demand features: computed at the request of stored features and of what it brings, by one SQL expression.

Training rows and requests go through the same expression in the same engine, so that a model sees no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from themisto.errors import Invalid
from themisto.features.columns import Column, Text, quoted
from themisto.features.dtypes import OIP, Dtype, arrow_type, fits, stored
from themisto.features.nouns import Noun
from themisto.types import Identifier

if TYPE_CHECKING:
    import duckdb

    from themisto.features.records import ServiceSpec

__all__ = ["Expressions", "OnDemand", "asked_columns", "check_on_demand"]

_SQL: dict[Dtype, str] = {
    "bool": "BOOLEAN",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "decimal": "DECIMAL(38, 9)",
    "list[int64]": "BIGINT[]",
    "list[float32]": "FLOAT[]",
    "list[float64]": "DOUBLE[]",
}
_TRIAL_S = 2.0
_QUICK = "PRAGMA disable_optimizer"
"""Planning one row's arithmetic is most of its cost."""


class OnDemand(Noun):
    """A feature that is computed at the request.

    expression: SQL (DuckDB's) over the service's stored features and `request`; one row at a time.
    request: columns that the request brings, with their types; in training the entity rows have them.
    dtype: the type of the answer; the expression is cast to it, to null where that does not fit.

    >>> OnDemand("ratio", "amount / avg_amount_7d", request={"amount": "float64"}).dtype
    'float64'
    """

    name: Identifier
    expression: Annotated[str, Field(min_length=1, max_length=4000)]
    request: Annotated[tuple[Column, ...], Field(max_length=50)] = ()
    dtype: Dtype = "float64"
    description: Text = ""

    def __init__(
        self,
        name: str,
        expression: str,
        *,
        request: Mapping[str, str] | Sequence[Column | Mapping[str, Any]] = (),
        dtype: str = "float64",
        description: str = "",
    ) -> None:
        columns = [{"name": n, "dtype": d} for n, d in request.items()] if isinstance(request, Mapping) else request
        super().__init__(name=name, expression=expression, request=tuple(columns), dtype=dtype, description=description)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as in Noun

    @property
    def oip(self) -> str:
        """The Open Inference Protocol's word for the type."""
        return OIP[self.dtype]


def asked_columns(service: str, features: Sequence[OnDemand]) -> tuple[Column, ...]:
    """What the request brings for all of them. Raises Invalid where they do not agree on a type."""
    found: dict[str, Column] = {}
    for feature in features:
        for column in feature.request:
            if found.setdefault(column.name, column).dtype != column.dtype:
                raise Invalid(
                    f"FeatureService {service}: '{column.name}' is {found[column.name].dtype} for one on-demand "
                    f"feature and {column.dtype} for '{feature.name}'.",
                    "Give it one type.",
                )
    return tuple(found.values())


def check_on_demand(spec: ServiceSpec) -> None:
    """Raises Invalid for a name that is taken, or an expression that does not run or looks beyond its row."""
    import duckdb
    import pyarrow as pa

    from themisto.features.rowwise import LIMITS, does_not_run, one_row_at_a_time, within_budget
    from themisto.features.sql import locked

    names = [*(k.name for k in spec.keys), *(c.name for c in (*spec.inputs, *spec.on_demand))]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise Invalid(
            f"FeatureService {spec.name}: {', '.join(twice)} is the name of two things.",
            "Keys, features, request columns and on-demand features have names of their own.",
        )
    given = pa.table({c.name: pa.array([None], arrow_type(c.dtype)) for c in spec.inputs})
    for feature in spec.on_demand:
        with locked(**LIMITS) as con:
            con.register("given", given)
            what = f"The on-demand feature '{feature.name}'"
            sql = f"SELECT {_cast(feature)} FROM given"  # noqa: S608 - a person's own expression, locked in
            steps = one_row_at_a_time(con, sql, what)
            if len(con.execute(f"DESCRIBE {sql}").fetchall()) != 1 or "FILTER" in steps:
                raise Invalid(f"{what} is not one expression.", "Write for example amount / avg_amount_7d.")
            try:
                with within_budget(con, what, _TRIAL_S):
                    con.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                raise does_not_run(what, error) from None


class Expressions:
    """The on-demand features of one service, ready to be computed."""

    def __init__(self, spec: ServiceSpec) -> None:
        self._inputs = spec.inputs
        self._stored = len(spec.columns)
        self._request = spec.request
        self._outputs = spec.on_demand
        self._of_table = f"SELECT {', '.join(map(_cast, spec.on_demand))} FROM given"  # noqa: S608 - as above
        self._of_rows = f"SELECT {', '.join(map(_stored, spec.on_demand))} FROM {self._given()}"  # noqa: S608
        self._idle: list[tuple[duckdb.DuckDBPyConnection, Any]] = []

    def of_table(self, given: Any) -> Any:
        """An Arrow table of the on-demand features for an Arrow table of what they look at."""
        import duckdb

        from themisto.features.rowwise import does_not_run
        from themisto.features.sql import locked

        with locked() as con:
            con.register("given", given)
            try:
                return con.sql(self._of_table).to_arrow_table()
            except duckdb.Error as error:
                raise does_not_run("An on-demand feature", error) from None

    def take(self) -> tuple[duckdb.DuckDBPyConnection, Any]:
        """A connection of one's own for `of_rows`, which gives it back; `interrupt()` stops what runs on it."""
        from themisto.features.rowwise import LIMITS
        from themisto.features.sql import locked

        try:
            return self._idle.pop()
        except IndexError:
            con = locked(_QUICK, **LIMITS)
            return con, con.extract_statements(self._of_rows)[0]

    def of_rows(
        self,
        rows: Sequence[Sequence[Any]],
        request: Mapping[str, Sequence[Any]],
        taken: tuple[duckdb.DuckDBPyConnection, Any] | None = None,
    ) -> list[list[Any]]:
        """Rows of the service's stored columns, each with its on-demand features behind; values as a store has them.

        request: one value a row for each request column. Raises Invalid for one that is missing or does not fit.
        """
        import duckdb

        from themisto.features.rowwise import does_not_run

        columns = [[row[i] for row in rows] for i in range(self._stored)]
        columns += [_fitting(c, request.get(c.name), len(rows)) for c in self._request]
        for place, column in enumerate(self._inputs):
            if column.dtype == "decimal":
                columns[place] = [None if v is None else str(v) for v in columns[place]]
        con, statement = taken or self.take()
        try:
            answers = con.execute(statement, columns).fetchall()
        except duckdb.Error as error:
            raise does_not_run("An on-demand feature", error) from None
        finally:
            self._idle.append((con, statement))
        return [[*row, *answer] for row, answer in zip(rows, answers, strict=True)]

    def _given(self) -> str:
        """The inputs as lists, one value a row; a timestamp is its microseconds, a decimal its text."""
        lists = []
        for column in self._inputs:
            name = quoted(column.name)
            if column.dtype == "timestamp":
                lists.append(f"make_timestamp(unnest(?::BIGINT[]))::TIMESTAMPTZ AS {name}")
            elif column.dtype == "decimal":
                lists.append(f"unnest(?::VARCHAR[])::{_SQL['decimal']} AS {name}")
            else:
                lists.append(f"unnest(?::{_SQL[column.dtype]}[]) AS {name}")
        return f"(SELECT {', '.join(lists)})"


def _cast(feature: OnDemand) -> str:
    return f"TRY_CAST((\n{feature.expression}\n) AS {_SQL[feature.dtype]}) AS {quoted(feature.name)}"


def _stored(feature: OnDemand) -> str:
    """As a store has it: a timestamp as its microseconds."""
    answer = f"TRY_CAST((\n{feature.expression}\n) AS {_SQL[feature.dtype]})"
    return f"epoch_us({answer})" if feature.dtype == "timestamp" else answer


def _fitting(column: Column, values: Sequence[Any] | None, rows: int) -> list[Any]:
    if values is None:
        raise Invalid(f"The request has no input {column.name}.", f"Send it: it is {column.dtype}, one value a row.")
    if len(values) != rows:
        raise Invalid(f"'{column.name}' has {len(values)} values for {rows} rows.", "Send one value a row.")
    wrong = next((v for v in values if v is not None and not fits(column.dtype, v)), None)
    if wrong is not None:
        raise Invalid(f"'{column.name}' is {column.dtype}; {str(wrong)[:60]!r} is none.", "Send it with its type.")
    return [stored(column.dtype, value) for value in values]
