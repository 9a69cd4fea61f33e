"""A data frame's digest: SHA-256 over all of its cells, the same wherever and however it was made.

What is hashed (version 1). A number is 8 bytes, little-endian; a text its length in bytes and its UTF-8 bytes:

1. the text `themisto-frame-1`, the number of rows, the number of columns;
2. for each column in order: its name, its Arrow type (texts), its cells.

Cells are the number of missing ones, then, where there are any, a bit a row that is set where one is
missing (first row highest); then, of fixed width, their little-endian Arrow values (booleans one byte,
missing ones zero); of strings and bytes, all lengths, then all contents; of lists, all lengths, then their
elements as cells; of structs, each field as cells. Categories are decoded first. All NaNs are one NaN.
So chunks, slices and offsets do not matter, and any cell, name, type or order does.
`string` and `large_string` are one type; categories are `category<…>`. A pandas index other than
0, 1, 2 … counts as columns. pandas' NaN in a float column is Arrow's null, as pyarrow reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from themisto.errors import Invalid
from themisto.tracking.models import DataDigest

__all__ = ["combined", "digest", "is_frame"]

_HEADER = "themisto-frame-1"


def is_frame(value: Any) -> bool:
    """Whether `digest` can take it: a pandas, polars or Arrow frame, a Series or a NumPy array."""
    root = type(value).__module__.partition(".")[0]
    return root in ("pandas", "polars", "pyarrow", "numpy") and hasattr(value, "shape") and not _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return getattr(value, "shape", None) == ()


def digest(name: str, frame: Any) -> DataDigest:
    """Digest `frame` whole. Raises Invalid for what is no frame, or holds cells Arrow cannot hold."""
    table = _as_table(name, frame)
    hasher = hashlib.sha256()
    _text(hasher, _HEADER)
    _count(hasher, table.num_rows)
    _count(hasher, table.num_columns)
    for column, chunks in zip(table.column_names, table.columns, strict=True):
        _text(hasher, column)
        _column(hasher, name, column, chunks)
    return DataDigest(name=name, sha256=hasher.hexdigest(), rows=table.num_rows, columns=table.num_columns)


def combined(digests: Mapping[str, DataDigest]) -> tuple[str | None, int | None]:
    """One digest and row count for a run's data: of several frames, over `name sha256` lines sorted by name."""
    if not digests:
        return None, None
    rows = sum(d.rows for d in digests.values())
    if len(digests) == 1:
        return next(iter(digests.values())).sha256, rows
    lines = "".join(f"{name} {digests[name].sha256}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest(), rows


def _as_table(name: str, frame: Any) -> Any:
    import pyarrow as pa

    if not is_frame(frame):
        raise Invalid(f"'{name}' is a {type(frame).__name__}, not a data frame.", "Name DataFrames with --data.")
    root = type(frame).__module__.partition(".")[0]
    try:
        if root == "pandas":
            return pa.Table.from_pandas(_pandas(frame))
        if root == "polars":
            return (frame if hasattr(frame, "columns") else frame.to_frame()).to_arrow()
        if root == "numpy":
            return _numpy(frame)
        return frame if isinstance(frame, pa.Table) else pa.Table.from_batches([frame])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise Invalid(f"'{name}' holds what cannot be digested: {reason}", "Give the columns one type each.") from error


def _pandas(frame: Any) -> Any:
    import pandas as pd

    if isinstance(frame, pd.Series):
        frame = frame.to_frame()
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"a {type(frame).__name__} has no columns")
    index = frame.index
    if isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1) and index.name is None:
        return frame
    return frame.reset_index()


def _numpy(array: Any) -> Any:
    import pyarrow as pa

    columns = array.reshape(array.shape[0], -1)
    names = [str(i) for i in range(columns.shape[1])]
    return pa.table([pa.array(columns[:, i]) for i in range(columns.shape[1])], names=names)


def _column(hasher: Any, frame: str, column: str, chunks: Any) -> None:
    import pyarrow as pa

    array = chunks.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunk, or more than one array can hold
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    try:
        _text(hasher, _type_name(array.type))
        _cells(hasher, array)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, NotImplementedError) as error:
        raise Invalid(
            f"Column '{column}' of '{frame}' is {array.type}, which cannot be digested.",
            "Convert it to numbers, strings, booleans or times.",
        ) from error


def _type_name(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return f"category<{_type_name(kind.value_type)}>"
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "binary"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    return str(kind)


def _cells(hasher: Any, array: Any) -> None:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        _cells(hasher, array.dictionary_decode())
    elif isinstance(array, pa.ExtensionArray):
        _cells(hasher, array.storage)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        _missing(hasher, array)
        _variable(hasher, array.cast(pa.large_string()).fill_null(""))
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        _missing(hasher, array)
        _variable(hasher, array.cast(pa.large_binary()).fill_null(b""))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        _missing(hasher, array)
        _fixed(hasher, array.value_lengths().cast(pa.int64()))
        _cells(hasher, array.flatten())
    elif pa.types.is_struct(kind):
        _missing(hasher, array)
        for child in array.flatten():
            _cells(hasher, child)
    elif pa.types.is_null(kind):
        _count(hasher, len(array))
    else:
        _missing(hasher, array)
        _fixed(hasher, array.cast(pa.uint8()) if pa.types.is_boolean(kind) else array)


def _missing(hasher: Any, array: Any) -> None:
    """A bit a row; nothing but a zero where no cell is missing."""
    import numpy as np

    _count(hasher, array.null_count)
    if array.null_count:
        hasher.update(np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())


def _fixed(hasher: Any, array: Any) -> None:
    """Values of fixed width as they lie in memory, missing ones zeroed, NaNs made one."""
    import numpy as np
    import pyarrow as pa

    width = array.type.bit_width // 8
    buffer = array.buffers()[1]
    if buffer is None or len(array) == 0:
        return
    start = array.offset * width
    values: Any = np.frombuffer(buffer, np.uint8)[start : start + len(array) * width].reshape(len(array), width)
    if array.null_count:
        values = values.copy()
        values[array.is_null().to_numpy(zero_copy_only=False)] = 0
    if pa.types.is_floating(array.type):
        floats = values.copy().view(f"f{width}")
        floats[np.isnan(floats)] = np.nan
        values = floats.view(np.uint8)
    hasher.update(np.ascontiguousarray(values))


def _variable(hasher: Any, array: Any) -> None:
    """Strings or bytes, none missing: all lengths, then all contents."""
    import numpy as np

    if len(array) == 0:
        return
    buffers = array.buffers()
    offsets = np.frombuffer(buffers[1], np.int64)[array.offset : array.offset + len(array) + 1]
    hasher.update(np.ascontiguousarray(np.diff(offsets)))
    if buffers[2] is not None:
        hasher.update(memoryview(buffers[2])[int(offsets[0]) : int(offsets[-1])])


def _text(hasher: Any, text: str) -> None:
    content = text.encode()
    _count(hasher, len(content))
    hasher.update(content)


def _count(hasher: Any, number: int) -> None:
    hasher.update(number.to_bytes(8, "little"))
