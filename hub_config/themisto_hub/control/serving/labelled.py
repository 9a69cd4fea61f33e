"""Labelled: the predictions of one release whose truth is known, for whoever judges the release by them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from themisto.serving.predictions import FACTS, rows
from themisto_hub.control.serving.labels import joined
from themisto_hub.control.serving.prediction_log import PredictionLog
from themisto_hub.control.serving.records import release_model, release_row

if TYPE_CHECKING:
    from themisto_hub.control.context import Control

__all__ = ["labelled"]


def labelled(
    control: Control,
    endpoint: str,
    number: int,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100_000,
) -> Any:
    """The labelled predictions of `endpoint@number`, an Arrow table, newest first: a row for each predicted row.

    Columns: `time`, `request_id`, `row`, `key`, the release's inputs and outputs by name (see
    `themisto.serving.predictions.rows` for names that clash), `label` (float64, or string). DuckDB reads
    it by its variable's name: `duckdb.sql("SELECT avg(label) FROM known")`. Where nothing is labelled it
    has no rows. limit: requests of the log that are looked at, the newest first.

    Raises NotFound for an unknown release, Unavailable where the log cannot be read. Authorises and
    records nothing: whoever calls it for a person does.
    """
    import pyarrow as pa

    with control.db.read() as session:
        release = release_model(release_row(session, endpoint, number))
    log = PredictionLog(control.settings.folder("gateway") / "predictions")
    told = [log.nothing().append_column("labels", pa.array([], pa.string()))]
    for page in log.pages(endpoint, limit=limit, since=since, until=until, release=str(release)):
        with control.db.read() as session:
            page_told = joined(session, endpoint, page)
        told.append(page_told.filter(page_told["labels"].is_valid()))
    found = rows(pa.concat_tables(told), lambda _: release.signature)
    found = found[found["label"].notna()]
    names = ["time", "request_id", "row", "key"]
    own = {c.name for c in (*release.signature.inputs, *release.signature.outputs)}
    taken = {*FACTS, "label"}  # what is called like one of these is `outputs.label`
    columns = [c for c in found.columns if c not in taken and (c in own or c.partition(".")[2] in own)]
    return pa.Table.from_pandas(found[[*names, *columns, "label"]], preserve_index=False)
