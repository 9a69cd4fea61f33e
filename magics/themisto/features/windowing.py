"""Windows in the point-in-time join: every answer of one view by one pass over its events, sorted once.

Events and the times that are asked for are laid into one line a key; each window is a frame of that line in DuckDB,
answered from a tree of partial aggregates. Work grows with n log n of both, not with their product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from themisto.features.columns import quoted
from themisto.features.dtypes import Dtype
from themisto.features.events import bucket
from themisto.features.models import FeatureView
from themisto.features.windows import Function, Window, Windows

__all__ = ["windowed"]

_LARGEST = "1e150"  # its square can be added up


def windowed(
    view: FeatureView, windows: Windows, features: Sequence[str], *, rows: str, place: Mapping[str, str], known: bool
) -> str:
    """SQL for `(n_, features…)`: for each row of `entities_` with key and time the features at its `at_`.

    rows: the table of the view's events. place: the column of `entities_` for each of the view's keys.
    windows: those of the version that is asked for; `view` says what the events are called.
    known: count only events that had been created by `at_`.
    """
    line = _Line(view, windows, [windows.windows[f] for f in features], rows, place)
    return line.known() if known and view.created is not None else line.framed()


@dataclass(frozen=True)
class _Line:
    view: FeatureView
    windows: Windows
    asked: Sequence[Window]
    rows: str
    place: Mapping[str, str]

    def known(self) -> str:
        """What was known at the time: by frames where all of a row's events were, by a join for the other rows."""
        names = ", ".join(["n_", *(quoted(w.name) for w in self.asked)])
        return (
            f"WITH framed_ AS MATERIALIZED ({self.framed(doubt=True)}), "  # noqa: S608 - quoted names, as all here
            "doubted_ AS MATERIALIZED (SELECT * FROM entities_ WHERE n_ IN (SELECT n_ FROM framed_ WHERE doubt_)) "
            f"SELECT {names} FROM framed_ WHERE NOT doubt_ UNION ALL {self.joined('doubted_')}"
        )

    def framed(self, *, doubt: bool = False) -> str:
        """By frames: the way for all that is known now. doubt: say `doubt_`, too: whether not all of it was then."""
        frames = {self._over(w): f"w{i}" for i, w in enumerate(self.asked)}
        keys = list(self.place.values())
        inputs = ", ".join(f"NULL AS {name}" for name in self._inputs())
        inputs += ", NULL AS known_, at_" if doubt else ""
        known = ", known_, NULL AS at_" if doubt else ""
        line = (
            f"SELECT {', '.join(keys)}, b, NULL AS n_, 1 AS one, r{self._named()}{known} FROM ({self._events()}) "  # noqa: S608 - quoted names, as all here
            "UNION ALL BY NAME "
            f"SELECT {', '.join(keys)}, {bucket('at_', self.windows.every_us)} AS b, n_, NULL AS one, NULL AS r"
            f"{', ' + inputs.removeprefix(', ') if inputs else ''} FROM entities_ WHERE {self._complete()}"
        )
        if doubt:
            frames[self._reach()] = "reach_"
        by = ", ".join(keys)
        named = ", ".join(f"{n} AS (PARTITION BY {by} ORDER BY b RANGE BETWEEN {f})" for f, n in frames.items())
        answers = ", ".join(f"{_answer(w, f'OVER {frames[self._over(w)]}')} AS {quoted(w.name)}" for w in self.asked)
        answers += f", coalesce(max(known_) OVER {frames[self._reach()]} > at_, false) AS doubt_" if doubt else ""
        return f"SELECT n_, {answers} FROM ({line}) WINDOW {named} QUALIFY n_ IS NOT NULL"  # noqa: S608

    def joined(self, entities: str = "entities_") -> str:
        """By a join on the key, for what was known at the time; it looks at each event of each longest window.

        Time is cut into cells as long as that, so that it does not look at a key's events of all times.
        """
        first = f"least({', '.join(f'{self._end(w)} - {w.length_us}' for w in self.asked)})"
        on = " AND ".join(f"e.{k} = v.{k}" for k in self.place.values())
        cell = max(w.length_us + w.step_us for w in self.asked)
        answers = ", ".join(
            f"{_answer(w, f'FILTER (WHERE v.b >= {self._end(w)} - {w.length_us} AND v.b < {self._end(w)})', 'v.')} "
            f"AS {quoted(w.name)}"
            for w in self.asked
        )
        return (
            f"SELECT e.n_, {answers} FROM (SELECT *, unnest(range({_cell(first, cell)}, us + 1, {cell})) AS cell "  # noqa: S608
            f"FROM (SELECT *, epoch_us(at_) AS us FROM {entities} WHERE {self._complete()}) e) e "
            f"LEFT JOIN (SELECT *, {_cell('b', cell)} AS cell FROM ({self._events(entities)})) v "
            f"ON {on} AND e.cell = v.cell AND v.known_ <= e.at_ AND v.b >= {first} AND v.b <= e.us "
            "GROUP BY e.n_"
        )

    def _events(self, entities: str = "entities_") -> str:
        """Key, bucket, rank in time and the columns that are aggregated; floats that are no number are null."""
        keys = ", ".join(f"{quoted(k)} AS {p}" for k, p in self.place.items())
        at = quoted(self.view.at)
        rank = f"row({at}, {quoted(self.windows.sequence)})" if self.windows.sequence else at
        known = f", {quoted(self.view.created)} AS known_" if self.view.created else ""
        columns = "".join(f", {value} AS {name}" for name, value in self._inputs().items())
        some = ", ".join(map(quoted, self.place))
        return (
            f"SELECT {keys}, {bucket(at, self.windows.every_us)} AS b, 1 AS one, {rank} AS r{known}{columns} "  # noqa: S608
            f"FROM {self.rows} WHERE ({some}) IN (SELECT ({', '.join(self.place.values())}) FROM {entities})"
        )

    def _inputs(self) -> dict[str, str]:
        """Names and SQL of the columns that the asked windows aggregate."""
        found = {}
        for w in self.asked:
            if w.column != "*":
                column = quoted(w.column)
                finite = f"CASE WHEN abs({column}) <= {_LARGEST} THEN {column} END"
                found[_input(w)] = finite if w.input_dtype in ("float32", "float64") else column
        return found

    def _named(self) -> str:
        return "".join(f", {name}" for name in self._inputs())

    def _complete(self) -> str:
        return " AND ".join(f"{name} IS NOT NULL" for name in (*self.place.values(), "at_"))

    def _over(self, window: Window) -> str:
        """The frame as seen from the beginning of the asked time's bucket."""
        if window.step_us == self.windows.every_us:
            return f"{window.length_us} PRECEDING AND 1 PRECEDING"
        into = f"(b % {window.step_us} + {window.step_us}) % {window.step_us}"
        return f"({into} + {window.length_us}) PRECEDING AND ({into} + 1) PRECEDING"

    def _reach(self) -> str:
        """The frame that holds those of all windows."""
        sliding = all(w.step_us == self.windows.every_us for w in self.asked)
        return f"{max(w.length_us + (0 if sliding else w.step_us) for w in self.asked)} PRECEDING AND 1 PRECEDING"

    def _end(self, window: Window) -> str:
        return f"(e.us - (e.us % {window.step_us} + {window.step_us}) % {window.step_us})"


def _cell(us: str, length_us: int) -> str:
    """The beginning of the cell that a time is in."""
    return f"({us}) - (({us}) % {length_us} + {length_us}) % {length_us}"


def _input(window: Window) -> str:
    return quoted(f"x_{window.column}")


def _answer(window: Window, over: str, of: str = "") -> str:
    """One function's SQL over its window; of: the name in front of the columns."""
    x = f"{of}one" if window.column == "*" else f"{of}{_input(window)}"
    sql = _FUNCTIONS.get((window.function, window.dtype)) or _FUNCTIONS[window.function, None]
    return sql.format(x=x, r=f"{of}r", over=over)


_FUNCTIONS: dict[tuple[Function, Dtype | None], str] = {
    ("count", None): "count({x}) {over}",
    ("count_distinct", None): "count(DISTINCT {x}) {over}",
    ("sum", "int64"): "TRY_CAST(coalesce(sum({x}) {over}, 0) AS BIGINT)",
    ("sum", "decimal"): "coalesce(sum({x}) {over}, 0)",
    ("sum", "float64"): "coalesce(sum({x}::DOUBLE) {over}, 0)",
    ("avg", None): "avg({x}::DOUBLE) {over}",
    ("stddev", None): "stddev_samp({x}::DOUBLE) {over}",
    ("min", None): "min({x}) {over}",
    ("max", None): "max({x}) {over}",
    ("last", None): "arg_max({x}, {r}) {over}",
}
"""What there is without events is part of the definition: see docs/feature-windows.md."""
