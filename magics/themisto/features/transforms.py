"""Transforms: how the rows of a view are made of its source, by the same text wherever rows come in.

SQL runs where the rows are: in the kernel, and on the server for rows of a stream. Python is the author's own code
and runs in a kernel only, never in a process of the platform; it is kept as source, never as a pickle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from themisto.errors import Invalid, NotFound, Refused
from themisto.features.columns import Column
from themisto.features.nouns import Noun

__all__ = ["Transform"]

_ENTRY = "transform"
_TRIED = 1000


class Transform(Noun):
    """What is computed of each row of a source.

    language: "sql": one SELECT over `source`; "python": source of a module that defines `transform`, a function of a
        DataFrame that gives a DataFrame.
    takes: the columns it looks at, with the types of the source that it was made with.
    """

    language: Literal["sql", "python"]
    text: Annotated[str, Field(min_length=1, max_length=100_000)]
    takes: tuple[Column, ...] = ()

    @classmethod
    def of(cls, given: Any, *, view: str) -> Transform | None:
        """As a person writes it: SQL, or a function made with `def`. Raises Invalid."""
        if given is None or isinstance(given, Transform):
            return given
        if isinstance(given, Mapping):
            return cls(**given)
        if isinstance(given, str):
            return cls(language="sql", text=given.strip())
        if not callable(given):
            raise Invalid(f"FeatureView {view}: a {type(given).__name__} is no transform.", "Give SQL or a function.")
        from themisto.serving.source import standalone

        return cls(language="python", text=standalone(given, _ENTRY))

    def on(self, source: Any, *, view: str) -> Transform:
        """The same with the types of a source's columns that it looks at."""
        return self.model_copy(update={"takes": _taken(self, source, view)})

    def rows(self, source: Any, *, view: str, server: bool = False) -> Any:
        """The view's rows, an Arrow table, of rows of the source.

        server: whether this is a process of the platform: then Python is Refused.
        Raises Invalid for what does not run, and for what gives another answer where fewer rows come together.
        """
        from themisto.features.sources import as_table, conform

        what = f"The transform of '{view}'"
        if server and self.language == "python":
            raise Refused(
                f"{what} is Python, which runs in its author's kernel only.",
                "Write it as SQL, or push the rows from a kernel or a scheduled notebook.",
            )
        table = as_table(source)
        if self.takes:
            import pyarrow as pa

            absent = [c.name for c in self.takes if c.name not in table.column_names]
            if absent:
                raise NotFound(f"{what} looks at {', '.join(absent)}, which the rows lack.", "Send these columns too.")
            arrays = conform(table, self.takes)
            table = pa.table({c.name: arrays[c.name] for c in self.takes})
        return _sql(self.text, table, what, server=server) if self.language == "sql" else _python(self, table, what)


def _taken(transform: Transform, source: Any, view: str) -> tuple[Column, ...]:
    from themisto.features.dtypes import dtype_of
    from themisto.features.sources import schema_of
    from themisto.features.sql import locked

    schema = schema_of(source)
    names = set(schema.names)
    if transform.language == "sql":
        with locked() as con:
            from themisto.features.rowwise import names_of

            _, named, star = names_of(con, transform.text)
            lower = {n.lower() for n in named}
            names = names if star else {n for n in names if n.lower() in lower}
    found = []
    for name in schema.names:
        if name in names:
            try:
                found.append(Column(name=name, dtype=dtype_of(name, schema.field(name).type)))
            except ValueError:
                raise Invalid(
                    f"FeatureView {view}: the column '{name[:60]}' is no identifier.",
                    "Rename it: lower-case letters, digits and '_', a letter first.",
                ) from None
    return tuple(found)


def _sql(sql: str, table: Any, what: str, *, server: bool) -> Any:
    import duckdb

    from themisto.features.rowwise import LIMITS, does_not_run, one_row_at_a_time, within_budget
    from themisto.features.sql import locked

    with locked(**(LIMITS if server else {})) as con:
        con.register("source", table)
        one_row_at_a_time(con, sql, what)
        try:
            if not server:
                return con.sql(sql).to_arrow_table()
            with within_budget(con, what):
                return con.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise does_not_run(what, error) from None


def _python(transform: Transform, table: Any, what: str) -> Any:
    """Runs the text, not the function that it was taken from: what is kept is what runs."""
    namespace: dict[str, Any] = {"__name__": "transform"}
    exec(compile(transform.text, "<transform>", "exec"), namespace)  # noqa: S102 - in the author's own kernel
    function = namespace[_ENTRY]
    whole = _called(function, table, what)
    head = table.slice(0, _TRIED)
    cut = max(len(head) // 2, 1)
    if len(head) > 1 and not _same(function, head, whole if len(table) <= _TRIED else None, cut, what):
        raise Invalid(
            f"{what} gives other answers when fewer rows come together.",
            "Compute each row from its own columns; over time: aggregates=[Aggregate(…)].",
        )
    return whole


def _same(function: Callable[..., Any], head: Any, whole: Any, cut: int, what: str) -> bool:
    import pyarrow as pa

    first, second = _called(function, head.slice(0, cut), what), _called(function, head.slice(cut), what)
    expected = _called(function, head, what) if whole is None else whole
    if first.column_names != expected.column_names or second.column_names != expected.column_names:
        return False
    try:
        parts = pa.concat_tables([first.cast(expected.schema), second.cast(expected.schema)])
    except (pa.ArrowException, ValueError):
        return False
    return bool(parts.to_pandas().equals(expected.to_pandas()))


def _called(function: Callable[..., Any], table: Any, what: str) -> Any:
    from themisto.features.sources import as_table

    try:
        answer = function(table.to_pandas())
    except Exception as error:
        raise Invalid(f"{what} stopped: {type(error).__name__}: {error}.", "Try it on the source yourself.") from error
    if not hasattr(answer, "columns"):
        raise Invalid(f"{what} gave a {type(answer).__name__}.", "It gives a DataFrame.")
    return as_table(answer)
