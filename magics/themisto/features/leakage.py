"""Features that know what was not known yet: rows of training data held against the times of the rows behind them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.findings import Finding, Severity
from themisto.features.join import events
from themisto.features.models import Column, FeatureView
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto.features.sources import as_table, conform, quoted, times
from themisto.types import Json

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

__all__ = ["from_the_future"]

_EXAMPLES = 3
_LOOKED_AT = 1000


def from_the_future(
    frame: pd.DataFrame, at: str, spec: ServiceSpec, files: Mapping[str, Path], views: Mapping[str, FeatureView]
) -> list[Finding]:
    """Findings on features of `frame` that were not known at `frame[at]`.

    frame: training rows with keys and time. Where it has features of a view, these are held against the view's
        rows: a value that the view had only later is a leak. Where it has none, it is told what a plain join
        would bring that was written later.
    """
    import duckdb
    import numpy as np
    import pyarrow as pa

    keys = [k.name for k in spec.keys]
    arrays = conform(as_table(frame, list(dict.fromkeys([*keys, at]))), spec.keys)
    columns: dict[str, Any] = {"n_": pa.array(np.arange(len(frame))), "at_": times(as_table(frame, [at]), at)}
    columns |= {f"k{i}": arrays[k] for i, k in enumerate(keys)}
    found: list[Finding] = []
    given: dict[str, list[ServiceColumn]] = {}
    for view in spec.views:
        there = [c for c in spec.of(view) if c.name in frame.columns]
        try:
            values = conform(
                as_table(frame, [c.name for c in there]), [Column(name=c.name, dtype=c.dtype) for c in there]
            )
        except Invalid:  # another type: told by `likeness`
            there, values = [], {}
        given[view] = there
        columns |= {f"{view}:{c.feature}": values[c.name] for c in there}
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        con.register("entities_", pa.table(columns))
        for name in spec.views:
            if name in spec.windows:  # its join never sees the open bucket
                continue
            con.read_parquet(str(files[name])).create_view("rows_", replace=True)
            found += _View(con, spec, views[name], keys, given[name]).findings(len(frame))
    return found


class _View:
    """One view of the service, over `entities_` (the training rows) and `rows_` (the view's)."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        spec: ServiceSpec,
        view: FeatureView,
        keys: list[str],
        given: list[ServiceColumn],
    ) -> None:
        self._con, self._view, self._given = con, view, given
        self._keys = {k: f"k{keys.index(k)}" for k in spec.view_keys[view.name]}
        self._ttl = view.ttl_s

    def findings(self, rows: int) -> list[Finding]:
        self._join()
        unknown = self._examples("unknown_")
        other = self._count("other_")
        found = []
        if unknown:
            count, name = self._count("unknown_"), self._view.name
            have = "have" if self._given else "would get by a plain join"
            found.append(
                self._finding(
                    "error" if self._given else "warning",
                    f"{count} of {rows} rows {have} values of '{name}' that were written after the row's time.",
                    "Join with --known (known=True), which sees only what had been written by then.",
                    count,
                    share=count / rows,
                    examples=unknown,
                )
            )
        if other:
            found += self._explained(other, rows)
        return found

    def _join(self) -> None:
        """`joined_`: of each training row whether what it has was written later, or is not what the view had."""
        view, at = self._view, quoted(self._view.at)
        equal = {s: " AND ".join(f"e.{place} = {s}.{quoted(k)}" for k, place in self._keys.items()) for s in "pq"}
        holds = {
            s: "true" if self._ttl is None else f"coalesce({s}.{at} >= e.at_ - {_interval(self._ttl)}, false)"
            for s in "pq"
        }

        def same(side: str) -> str:
            pairs = [
                f"e.{quoted(f'{view.name}:{c.feature}')} IS NOT DISTINCT FROM "
                f"CASE WHEN {holds[side]} THEN {side}.{quoted(c.feature)} END"
                for c in self._given
            ]
            return " AND ".join(pairs) or "true"

        late = (
            "false" if view.created is None else f"coalesce(p.{quoted(view.created)} > e.at_, false) AND {holds['p']}"
        )
        unknown = f"{late} AND {same('p')} AND NOT ({same('q')})" if self._given else late
        created = "NULL" if view.created is None else f"p.{quoted(view.created)}"
        self._con.execute(f"CREATE OR REPLACE VIEW p_ AS {events(view, 'rows_', known=False)}")
        self._con.execute(f"CREATE OR REPLACE VIEW q_ AS {events(view, 'rows_', known=view.created is not None)}")
        self._con.execute(
            f"CREATE OR REPLACE TABLE joined_ AS SELECT e.*, p.{at} AS event_, {created} AS created_, "  # noqa: S608
            f"{unknown} AS unknown_, NOT ({same('p')}) AND NOT ({same('q')}) AS other_ FROM entities_ e "
            f"ASOF LEFT JOIN p_ p ON {equal['p']} AND e.at_ >= p.from_ "
            f"ASOF LEFT JOIN q_ q ON {equal['q']} AND e.at_ >= q.from_"
        )

    def _explained(self, other: int, rows: int) -> list[Finding]:
        """Rows with values that the view did not have at their time: had it them later?"""
        equal = " AND ".join(f"j.{place} = v.{quoted(k)}" for k, place in self._keys.items())
        pairs = [
            f"j.{quoted(f'{self._view.name}:{c.feature}')} IS NOT DISTINCT FROM v.{quoted(c.feature)}"
            for c in self._given
        ]
        at = quoted(self._view.at)
        self._con.execute(
            f"CREATE OR REPLACE TABLE looked_ AS SELECT j.*, (SELECT min(v.{at}) FROM rows_ v WHERE {equal} "  # noqa: S608
            f"AND v.{at} > j.at_ AND {' AND '.join(pairs)}) AS later_ "
            f"FROM (SELECT * FROM joined_ WHERE other_ ORDER BY hash(n_) LIMIT {_LOOKED_AT}) j"
        )
        looked, future = self._con.execute("SELECT count(*), count(later_) FROM looked_").fetchall()[0]
        name, found = self._view.name, []
        count = round(other * future / looked)
        if future:
            self._con.execute(
                "CREATE OR REPLACE TABLE joined_ AS SELECT * REPLACE (later_ AS event_, NULL AS created_), "
                "true AS future_ FROM looked_ WHERE later_ IS NOT NULL"
            )
            found.append(
                self._finding(
                    "error",
                    f"{count} of {rows} rows have values of '{name}' that it got only after the row's time.",
                    "Join with %%features, which never looks ahead.",
                    count,
                    share=count / rows,
                    examples=self._examples("future_"),
                )
            )
        if other - count:
            found.append(
                self._finding(
                    "warning",
                    f"{other - count} of {rows} rows have values of '{name}' that it did not have then.",
                    "Join again with %%features; if you changed the values yourself, this is to be expected.",
                    other - count,
                    share=(other - count) / rows,
                )
            )
        return found

    def _count(self, which: str) -> int:
        return int(self._con.execute(f"SELECT count(*) FILTER ({which}) FROM joined_").fetchall()[0][0])  # noqa: S608

    def _examples(self, which: str) -> list[Json]:
        keys = ", ".join(f"CAST({place} AS VARCHAR) AS {quoted(k)}" for k, place in self._keys.items())
        moments = ", ".join(f"CAST({name}_ AS VARCHAR) AS {quoted(name)}" for name in ("at", "event", "created"))
        answer = self._con.execute(
            f"SELECT {keys}, {moments} FROM joined_ WHERE {which} ORDER BY n_ LIMIT {_EXAMPLES}"  # noqa: S608
        )
        names = [column[0] for column in answer.description or ()]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    def _finding(self, severity: Severity, detail: str, remedy: str, count: int, **figures: Json) -> Finding:
        return Finding(
            check="leakage",
            subject=self._view.name,
            severity=severity,
            detail=detail,
            remedy=remedy,
            figures={"rows": count} | figures,
        )


def _interval(ttl_s: float) -> str:
    return f"to_microseconds({round(ttl_s * 1_000_000)})"
