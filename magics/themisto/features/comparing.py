"""Entities of a service read offline and online, and the differences told as findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.features.answers import Answer
from themisto.features.dtypes import arrow_type, micros, to_json
from themisto.features.findings import Finding, Severity
from themisto.features.join import events
from themisto.features.models import FeatureView
from themisto.features.reading import cast_key
from themisto.features.records import Freshness, ServiceSpec
from themisto.features.skew import Difference, Kind, Row, Terms, explain
from themisto.features.sources import quoted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison"]

_EXAMPLES = 3
_Explained = Sequence[tuple[int, Difference]]


class Comparison:
    """A service's rows offline, against what was read of it online.

    files: for each view its Parquet file; views: its definition.
    """

    def __init__(self, spec: ServiceSpec, files: Mapping[str, Path], views: Mapping[str, FeatureView]) -> None:
        self._spec, self._files, self._views = spec, files, views

    def entities(self, count: int, seed: int, more: pd.DataFrame | None = None) -> list[dict[str, Any]]:
        """`count` entities of each view by chance, the same for the same seed, and as many of `more`; none where a
        view has no rows."""
        pools: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
        for view in self._spec.views:
            pools[self._spec.view_keys[view]] += self._sampled(view, count, seed)
        by_name = {k.name: k for k in self._spec.keys}
        if more is not None and set(by_name) <= set(more.columns):
            known = more[list(by_name)].dropna().drop_duplicates()
            picked = known.sample(min(count, len(known)), random_state=seed)
            for names, pool in pools.items():
                chosen = picked[list(names)].itertuples(index=False)
                pool += [tuple(cast_key(by_name[n], v) for n, v in zip(names, row, strict=True)) for row in chosen]
        unique = {names: list(dict.fromkeys(pool)) for names, pool in pools.items()}
        if not all(unique.values()):
            return []
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for i in range(max(len(pool) for pool in unique.values())):
            entity: dict[str, Any] = {}
            for names in sorted(unique, key=len):  # a view by more keys says which of them go together
                entity |= dict(zip(names, unique[names][i % len(unique[names])], strict=True))
            found.setdefault(tuple(entity[n] for n in by_name), {n: entity[n] for n in by_name})
        return list(found.values())

    def _sampled(self, view: str, count: int, seed: int) -> list[tuple[Any, ...]]:
        import duckdb

        names = ", ".join(quoted(n) for n in self._spec.view_keys[view])
        named = [f"{quoted(k.name)} <> ''" for k in self._views[view].keys if k.dtype == "string"]
        with duckdb.connect(":memory:") as con:
            con.read_parquet(str(self._files[view])).create_view("rows_")
            found: list[tuple[Any, ...]] = con.execute(
                f"SELECT {names} FROM (SELECT DISTINCT {names} FROM rows_ WHERE {' AND '.join(named) or 'true'}) "  # noqa: S608
                f"ORDER BY hash({names}, $seed), {names} LIMIT $count",
                {"seed": seed, "count": count},
            ).fetchall()
        return found

    def findings(
        self,
        entities: Sequence[Mapping[str, Any]],
        online: Answer,
        fresh: Mapping[str, Freshness],
        now: datetime,
    ) -> list[Finding]:
        """Findings on differences between the rows as of `now` and what was read online for `entities`."""
        found: list[Finding] = []
        for name in self._spec.views:
            if name in self._spec.windows:  # tiles, not rows
                continue
            offline = list(self._newest(name, entities, now))
            rows = list(zip(offline, self._read(name, offline, online), strict=True))
            reached = fresh[name].online_to if name in fresh else None
            terms = self._terms(name, now, reached)
            dtypes = [c.dtype for c in self._spec.of(name)]
            by_kind: dict[Kind, list[tuple[int, Difference]]] = defaultdict(list)
            for i, (one, other) in enumerate(rows):
                difference = explain(dtypes, one, other, terms)
                if difference is not None:
                    by_kind[difference.kind].append((i, difference))
            found += [self._finding(name, explained, entities, rows) for explained in by_kind.values()]
        return found

    def _terms(self, view: str, now: datetime, reached: datetime | None) -> Terms:
        spec, definition = self._spec, self._views[view]
        limits = (None if spec.on_missing == "last" else spec.max_age_s, definition.online.ttl_s)
        gone_s = min((s for s in limits if s is not None), default=None)
        return Terms(micros(now), spec.ttl_s[view], gone_s, None if reached is None else micros(reached))

    def _newest(self, name: str, entities: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Row | None]:
        """Of each entity the newest row at or before `now`."""
        import duckdb
        import pyarrow as pa

        view, columns = self._views[name], self._spec.of(name)
        asked = {f"k{i}": pa.array([e[k.name] for e in entities], arrow_type(k.dtype)) for i, k in enumerate(view.keys)}
        at = quoted(view.at)
        values = [
            f"epoch_us(v.{quoted(c.feature)})" if c.dtype == "timestamp" else f"v.{quoted(c.feature)}" for c in columns
        ]
        equal = " AND ".join(f"a.k{i} = v.{quoted(k.name)}" for i, k in enumerate(view.keys))
        with duckdb.connect(":memory:") as con:
            con.execute("SET TimeZone = 'UTC'")
            con.register("asked_", pa.table(asked | {"n_": pa.array(range(len(entities)))}))
            con.read_parquet(str(self._files[name])).create_view("rows_")
            answer = con.execute(
                f"SELECT {', '.join([f'epoch_us(v.{at})', *values])} FROM asked_ a LEFT JOIN "  # noqa: S608
                f"({events(view, 'rows_', known=False)}) v ON {equal} AND v.{at} <= $now "
                f"QUALIFY row_number() OVER (PARTITION BY a.n_ ORDER BY v.{at} DESC NULLS LAST) = 1 ORDER BY a.n_",
                {"now": now},
            )
            for moment, *row in answer.fetchall():
                held = tuple(to_json(c.dtype, v) for c, v in zip(columns, row, strict=True))
                yield None if moment is None else Row(moment, held)

    def _read(self, view: str, offline: Sequence[Row | None], online: Answer) -> Iterator[Row | None]:
        """The view's part of what was read; a default in place of nothing is nothing."""
        columns = self._spec.of(view)
        names = [c.name for c in online.columns]
        places = [names.index(c.name) for c in columns]
        filled = self._spec.on_missing == "default"
        defaults = [to_json(c.dtype, self._spec.stand_ins.get(c.name)) if filled else None for c in columns]
        seen = online.views[view]
        oldest_s = None if self._spec.on_missing == "last" else self._spec.max_age_s
        for row, moment, age_s, kept in zip(online.rows, seen.event_times, seen.ages_s, offline, strict=True):
            if not isinstance(moment, datetime) or not isinstance(age_s, float):
                yield None
                continue
            if oldest_s is not None and age_s > oldest_s:  # not given to a model
                yield None
                continue
            trained = kept.values if kept is not None else defaults
            values = [row[p] for p in places]
            yield Row(
                micros(moment),
                tuple(
                    None if filled and t is None and v == d else v
                    for v, t, d in zip(values, trained, defaults, strict=True)
                ),
            )

    def _finding(
        self,
        name: str,
        explained: _Explained,
        entities: Sequence[Mapping[str, Any]],
        rows: Sequence[tuple[Row | None, Row | None]],
    ) -> Finding:
        columns, kind = self._spec.of(name), explained[0][1].kind
        severity, told, remedy = _TOLD[kind]
        wrong = [
            c.feature for i, c in enumerate(columns) if any(i in difference.columns for _, difference in explained)
        ]
        examples: list[dict[str, Any]] = []
        for i, difference in explained[:_EXAMPLES]:
            offline, online = rows[i]
            example: dict[str, Any] = {k: entities[i][k] for k in self._spec.view_keys[name]}
            example |= {"offline_at": _iso(offline), "online_at": _iso(online)}
            for n in difference.columns:
                if not columns[n].personal:
                    example[columns[n].feature] = [_value(offline, n), _value(online, n)]
            examples.append(example)
        return Finding(
            check="skew",
            subject=name,
            severity=severity,
            detail=f"{kind}: {len(explained)} of {len(entities)} entities {told} ({', '.join(wrong[:5])}).",
            remedy=remedy.format(view=name),
            figures={
                "kind": kind,
                "entities": len(explained),
                "of": len(entities),
                "features": wrong,
                "examples": examples,
            },
        )


_AGAIN = "Run %features materialize {view}."
_TOLD: Mapping[Kind, tuple[Severity, str, str]] = {
    "missing offline": (
        "warning",
        "are online with a row that the view does not have",
        "Apply the view with all its rows, then materialize it.",
    ),
    "expired": (
        "warning",
        "are on one side only, for their age",
        "Let max_age of the service be the ttl of the view, and materialize it more often.",
    ),
    "late": ("warning", "have newer rows than those online", _AGAIN),
    "missing online": ("error", "have rows and are not online", _AGAIN),
    "type": ("error", "are online with values of another type", "Apply the service again, then materialize the view."),
    "rewritten": (
        "error",
        "have other values online for the same event time",
        _AGAIN + " If it comes again, something else writes them.",
    ),
}


def _iso(row: Row | None) -> Any:
    return None if row is None else to_json("timestamp", row.at)


def _value(row: Row | None, place: int) -> Any:
    return None if row is None else row.values[place]
