"""Erasing a person: finding and removing all rows of an entity, and knowing her again without keeping her key.

What is kept of an erased entity is a keyed hash (HMAC-SHA256, RFC 2104) of its key: enough to keep rows of it out when
they come again, too little to say who it was.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.features.judging import REASON, quarantine_file
from themisto.features.models import FeatureView
from themisto.features.online import encode_key
from themisto.features.reading import cast_key
from themisto.features.records import Quarantine, ViewData
from themisto.features.rowfile import key_sql, written

if TYPE_CHECKING:
    import duckdb

__all__ = ["erased_among", "holds", "key_hash", "key_in", "quarantine_without", "without"]


def key_hash(secret: bytes, entity: str, key: str) -> str:
    """What is kept of an erased entity; hexadecimal."""
    return hmac.new(secret, f"{entity}\0{key}".encode(), hashlib.sha256).hexdigest()


def key_in(view: FeatureView, keys: Mapping[str, Any]) -> str:
    """The key of an entity in a view, as `encode_key` writes it, from values by name.

    Raises Invalid for a name that is no key of the entity, or a value of another type.
    """
    names = {k.name for k in view.keys}
    if names != keys.keys():
        raise Invalid(f"{view.entity.name} is known by {', '.join(sorted(names))}.", "Give exactly these.")
    return encode_key(view.keys, [cast_key(k, keys[k.name]) for k in view.keys])


def erased_among(view: FeatureView, path: Path, secret: bytes, hashes: Collection[str]) -> list[str]:
    """The keys in a view's file whose hash is among `hashes`."""
    if not hashes:
        return []
    with _opened(view, path) as con:
        keys = [row[0] for row in con.execute("SELECT DISTINCT key_ FROM keyed_").fetchall()]
    return [key for key in keys if key_hash(secret, view.entity.name, key) in hashes]


def holds(view: FeatureView, path: Path, key: str) -> bool:
    """Whether a view's file has rows of the key."""
    with _opened(view, path) as con:
        return con.execute("SELECT 1 FROM keyed_ WHERE key_ = ? LIMIT 1", [key]).fetchone() is not None


def without(view: FeatureView, path: Path, keys: Sequence[str], folder: Path, *more: str) -> tuple[Path, ViewData]:
    """A view's file without the rows of `keys`, as `folder/<sha256>.parquet`; `more` columns than the view's stay."""
    with _opened(view, path) as con:
        con.execute("CREATE TABLE gone_ AS SELECT unnest(?::VARCHAR[]) AS key_", [list(keys)])
        con.execute("CREATE VIEW rows_ AS SELECT *, 0 AS n_ FROM keyed_ ANTI JOIN gone_ USING (key_)")
        return written(con, view, folder, *more)


def quarantine_without(view: FeatureView, folder: Path, quarantine: Quarantine, key: str) -> Quarantine | None:
    """A quarantine of the view whose files are in `folder` without the rows of `key`; None: no row is left."""
    import duckdb

    before = quarantine_file(folder, quarantine)
    path, data = without(view, before, [key], before.parent, REASON)
    if not data.rows:
        path.unlink()
        return None
    with duckdb.connect(":memory:") as con:
        con.read_parquet(str(path)).create_view("rows_")
        told = f"SELECT count(*) FROM rows_ WHERE contains('; ' || {REASON} || '; ', '; ' || ? || '; ')"  # noqa: S608
        counts = {said: int(con.execute(told, [said]).fetchall()[0][0]) for said in quarantine.reasons}
    reasons = {said: count for said, count in counts.items() if count}
    return quarantine.model_copy(update={"sha256": data.sha256, "rows": data.rows, "reasons": reasons})


def _opened(view: FeatureView, path: Path) -> duckdb.DuckDBPyConnection:
    """A connection with the rows and their keys as `keyed_`."""
    import duckdb

    con = duckdb.connect(":memory:")
    con.read_parquet(str(path)).create_view("file_")
    con.execute(f"CREATE VIEW keyed_ AS SELECT *, {key_sql(view)} AS key_ FROM file_")  # noqa: S608 - quoted names
    return con
