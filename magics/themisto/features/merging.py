"""The point-in-time join where all of it fits in memory: files that are sorted already are only looked up in.

`write_parquet` sorts a view's rows by key, event time and created time, so the row that counts for an entity row is
the last one of its key that is not later: a bisection among the key's rows, for all entity rows at once. Nothing is
sorted or hashed row by row, which is what an ASOF join spends its time on. The answers are those of `join`'s SQL; what
does not fit, or is not sorted, or needs more than this, is left to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from themisto.features.models import FeatureView
from themisto.features.records import ServiceSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MEMORY_BYTES", "merged"]

MEMORY_BYTES = 1 << 30
"""What entity rows, one view and the answers may take here."""

_BLOCK = 1 << 15  # entity rows looked up at a time: what is computed in between stays in the cache
_AT_ONCE = 2


def merged(
    keys: Mapping[str, Any],
    at: Any,
    spec: ServiceSpec,
    files: Mapping[str, Path],
    views: Mapping[str, FeatureView],
    *,
    known: bool = False,
    memory_bytes: int = MEMORY_BYTES,
) -> pa.Table | None:
    """The columns of `spec` for each entity row, in order; None where this is not the way.

    keys: of the entity rows, by name, typed as `spec.keys`; at: their times, timestamp[us, UTC].
    """
    import pyarrow as pa

    plain = all(name not in spec.windows and not (known and views[name].created) for name in spec.views)
    if not plain or _needed(len(at), spec, files) > memory_bytes:
        return None
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = _Asked(pool, keys, at, {tuple(spec.view_keys[name]) for name in spec.views})
        columns: dict[str, Any] = {}
        for part in list(pool.map(lambda name: _of_view(asked, spec, views[name], files[name]), spec.views)):
            if part is None:
                return None
            columns |= part
    return pa.table({c.name: columns[c.name] for c in spec.columns})


def _needed(rows: int, spec: ServiceSpec, files: Mapping[str, Path]) -> int:
    """Bytes, roughly: the answers, what is looked up with, and the largest files as they are in memory."""
    import pyarrow.parquet as pq

    sizes = []
    for name in spec.views:
        with pq.ParquetFile(files[name]) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        sizes.append(2 * sum(group.total_byte_size for group in groups))
    return rows * (40 + 16 * len(spec.columns)) + _AT_ONCE * max(sizes, default=0)


class _Asked:
    """The entity rows: their times, and for each set of keys a number that stands for the row's values of them."""

    def __init__(
        self, pool: ThreadPoolExecutor, keys: Mapping[str, Any], at: Any, used: Collection[tuple[str, ...]]
    ) -> None:
        import numpy as np
        import pyarrow as pa

        self._codes = {names: pool.submit(_encoded, {name: keys[name] for name in names}) for names in used}
        moments = _flat(at)
        self.nowhen = np.asarray(moments.is_null()) if moments.null_count else None
        self.when = np.asarray((moments.fill_null(0) if moments.null_count else moments).cast(pa.int64()))

    def codes(self, names: tuple[str, ...]) -> tuple[Any, pa.Table]:
        """Of each row the place of its values among the distinct ones, -1 where one is missing; and these."""
        return self._codes[names].result()


def _encoded(keys: Mapping[str, Any]) -> tuple[Any, pa.Table]:
    import numpy as np
    import pyarrow as pa

    places, distinct = None, pa.table({})
    for name, key in keys.items():
        encoded = _flat(key).dictionary_encode()
        mine = np.asarray(encoded.indices.fill_null(-1)).astype(np.int64)
        if places is None:
            places, distinct = mine, pa.table({name: encoded.dictionary})
            continue
        there = (places >= 0) & (mine >= 0)
        width = max(len(encoded.dictionary), 1)
        both, numbers = np.unique(places[there] * width + mine[there], return_inverse=True)
        places = np.full(len(mine), -1, dtype=np.int64)
        places[there] = numbers
        distinct = distinct.take(both // width).append_column(name, encoded.dictionary.take(both % width))
    return places, distinct


def _of_view(asked: _Asked, spec: ServiceSpec, view: FeatureView, file: Path) -> dict[str, Any] | None:
    """The view's columns for each entity row; None for a file that is not sorted, or has keys of another type."""
    import numpy as np
    import pyarrow.parquet as pq

    names = tuple(spec.view_keys[view.name])
    columns = spec.of(view.name)
    wanted = list(dict.fromkeys([*names, *view.times, *(c.feature for c in columns)]))
    texts = [k.name for k in view.keys if k.dtype == "string"]
    table = pq.read_table(file, columns=wanted, read_dictionary=texts)
    moments = _micros(table[view.at])
    keyed = [_flat(table[n].unify_dictionaries()) for n in names]
    starts = _starts([k.indices if n in texts else k for n, k in zip(names, keyed, strict=True)])
    if not _sorted(starts, moments, None if view.created is None else _micros(table[view.created])):
        return None
    of_groups = [k.take(starts) for k in keyed]
    places, distinct = asked.codes(names)
    group_of = _groups(
        distinct, [k.dictionary_decode() if n in texts else k for n, k in zip(names, of_groups, strict=True)]
    )
    if group_of is None:
        return None
    ends = np.append(starts[1:], len(moments))
    found = _newest(asked, places, _Events(moments, starts, ends, group_of), spec.ttl_s[view.name])
    return {c.name: taken for c, taken in zip(columns, _taken([table[c.feature] for c in columns], found), strict=True)}


def _taken(columns: Sequence[Any], places: Any) -> list[Any]:
    """The values at `places`, nothing where that is -1."""
    import numpy as np
    import pyarrow as pa

    nothing = places < 0
    valid = pa.py_buffer(np.packbits(~nothing, bitorder="little").tobytes())
    empty = int(nothing.sum())
    rows = None
    found = []
    for column in map(_flat, columns):
        if len(column) and not column.null_count and pa.types.is_floating(column.type):
            values = np.asarray(column).take(places, mode="clip")
            values[nothing] = np.nan
            found.append(pa.Array.from_buffers(column.type, len(places), [valid, pa.py_buffer(values)], empty))
            continue
        rows = pa.array(places, mask=nothing) if rows is None else rows
        found.append(column.take(rows))
    return found


class _Events(NamedTuple):
    """A view's rows: their times; where each key's begin and end; the place of each key that is asked for, or -1."""

    moments: Any
    starts: Any
    ends: Any
    group_of: Any


def _newest(asked: _Asked, places: Any, events: _Events, ttl_s: float | None) -> Any:
    """Of each entity row the place of the row that counts for it; -1: none does."""
    import numpy as np

    moments, starts, ends, group_of = events

    found = np.full(len(places), -1, dtype=np.int64)
    if not len(moments) or not len(group_of):
        return found
    longest = int((ends - starts).max())
    steps = [1 << n for n in reversed(range(longest.bit_length()))]
    # One more of each: -1, for what has no group, counts from the end.
    begins = np.append(starts[group_of], 0) - 1
    behind = np.append(ends[group_of], 0)
    begins[:-1][group_of < 0] = -1
    behind[:-1][group_of < 0] = 0
    for low in range(0, len(places), _BLOCK):
        block = slice(low, low + _BLOCK)
        place, when = places[block], asked.when[block]
        position, end = begins.take(place), behind.take(place)
        first = position.copy()
        for step in steps:
            further = position + step
            fits = moments.take(further, mode="clip") <= when
            fits &= further < end
            np.copyto(position, further, where=fits)
        there = position > first
        if ttl_s is not None:
            there &= moments.take(position, mode="clip") >= when - round(ttl_s * 1_000_000)
        if asked.nowhen is not None:
            there &= ~asked.nowhen[block]
        found[block] = np.where(there, position, -1)
    return found


def _starts(keys: Sequence[Any]) -> Any:
    """Where in sorted rows another key begins."""
    import numpy as np
    import pyarrow.compute as pc

    rows = len(keys[0])
    if not rows:
        return np.zeros(0, dtype=np.int64)
    begins = np.zeros(rows, dtype=bool)
    begins[0] = True
    for key in keys:
        begins[1:] |= np.asarray(pc.not_equal(key.slice(1), key.slice(0, rows - 1)))
    return np.flatnonzero(begins)


def _sorted(starts: Any, moments: Any, created: Any | None) -> bool:
    """Whether the rows of each key go by time, and those of one time by when they were created."""
    import numpy as np

    if len(moments) < 2:
        return True
    same_key = np.ones(len(moments) - 1, dtype=bool)
    same_key[starts[1:] - 1] = False
    if (same_key & (moments[1:] < moments[:-1])).any():
        return False
    if created is None:
        return True
    ties = np.flatnonzero(same_key & (moments[1:] == moments[:-1]))
    return bool((created[ties + 1] >= created[ties]).all())


def _groups(distinct: pa.Table, of_rows: Sequence[Any]) -> Any | None:
    """For each of the distinct keys its place among the keys of sorted rows, -1 where they have none.

    None where a key stands at two places, so that the rows are not sorted, or the types differ.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if distinct.schema.types != [key.type for key in of_rows]:
        return None
    if len(of_rows) == 1:
        (key,) = of_rows
        if not pc.all(pc.less(key.slice(0, max(len(key) - 1, 0)), key.slice(1)), min_count=0).as_py():
            return None
        return np.asarray(pc.index_in(_flat(distinct.column(0)), value_set=key).fill_null(-1)).astype(np.int64)
    names = distinct.column_names
    rows = pa.table(dict(zip(names, of_rows, strict=True)))
    if rows.group_by(names).aggregate([]).num_rows != rows.num_rows:
        return None
    numbered = distinct.append_column("place_", pa.array(np.arange(distinct.num_rows)))
    met = numbered.join(rows.append_column("row_", pa.array(np.arange(rows.num_rows))), keys=names, join_type="inner")
    found = np.full(distinct.num_rows, -1, dtype=np.int64)
    found[np.asarray(met["place_"])] = np.asarray(met["row_"])
    return found


def _flat(array: Any) -> Any:
    """One piece, whatever it came in."""
    return array.combine_chunks() if hasattr(array, "combine_chunks") else array


def _micros(array: Any) -> Any:
    import numpy as np
    import pyarrow as pa

    return np.asarray(_flat(array).cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
