"""What a join found, put beside the rows that asked for it: part by part, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from themisto.features.on_demand import Expressions
from themisto.features.records import ServiceSpec
from themisto.features.sources import conform
from themisto.features.spines import Spine

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["beside", "side_by_side", "with_on_demand"]


def beside(spine: Spine, reader: pa.RecordBatchReader, spec: ServiceSpec) -> Iterator[pa.Table]:
    """The spine's rows with their features, part by part: both come in the spine's order."""

    waiting = reader.schema.empty_table()
    for part in spine.parts():
        features, waiting = _taken(waiting, reader, len(part))
        if spec.on_demand:
            features = _computed(spec, features, part)
        for name in features.column_names:
            part = part.append_column(features.schema.field(name), features[name])  # noqa: PLW2901 - the same, grown
        yield part


def side_by_side(spec: ServiceSpec, one: pa.RecordBatchReader, other: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The columns of `spec` from two readers of the same rows in the same order."""
    import pyarrow as pa

    schema = pa.schema([(one if c.name in one.schema.names else other).schema.field(c.name) for c in spec.columns])

    def batches() -> Iterator[pa.RecordBatch]:
        waiting = other.schema.empty_table()
        for batch in one:
            mine, waiting = _taken(waiting, other, len(batch))
            both = {name: batch[name] for name in batch.schema.names}
            both |= {name: mine[name].combine_chunks() for name in mine.column_names}
            yield pa.RecordBatch.from_arrays([both[name] for name in schema.names], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def with_on_demand(spec: ServiceSpec, stored: pa.Table, spine: Spine) -> pa.Table:
    """The stored features, and those that are computed of them and of the entity rows' own columns."""
    import pyarrow as pa

    brought = pa.concat_tables(spine.parts([c.name for c in spec.request])) if spec.request else None
    return _computed(spec, stored, brought)


def _computed(spec: ServiceSpec, stored: pa.Table, rows: pa.Table | None) -> pa.Table:
    import pyarrow as pa

    brought = conform(rows, spec.request) if rows is not None else {}
    found = {c.name: stored[c.name] for c in spec.columns}
    computed = Expressions(spec).of_table(pa.table(found | brought))
    return pa.table(found | {c.name: computed[c.name] for c in spec.on_demand})


def _taken(waiting: pa.Table, reader: pa.RecordBatchReader, rows: int) -> tuple[pa.Table, pa.Table]:
    """The next `rows` of what waits and of the reader, and what waits then."""
    import pyarrow as pa

    while len(waiting) < rows:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([reader.read_next_batch()])])
    return waiting.slice(0, rows), waiting.slice(rows)
