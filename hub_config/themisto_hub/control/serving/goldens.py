"""Golden requests: what a release must answer, wherever it runs, before it gets traffic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from themisto.errors import ParityError
from themisto.serving.models import Golden, Release

__all__ = ["Infer", "first_row", "replay"]

Infer = Callable[[Mapping[str, list[Any]]], Mapping[str, list[Any]]]
"""Sends rows (column name to values) and returns the answer in the same shape."""

_SHOWN = 3


def replay(release: Release, infer: Infer) -> int:
    """Send every golden row, at most `max_batch` at a time, and compare; the number of rows.

    Raises ParityError naming the worst rows.
    """
    golden = release.golden
    rows = _rows(golden)
    answered: dict[str, list[Any]] = {name: [] for name in golden.outputs}
    for batch in _batches(golden.inputs, rows, release.serving.max_batch):
        answer = infer(batch)
        for name, values in answered.items():
            values.extend(answer.get(name, []))
    wrong = list(_differences(release, answered, rows))
    if wrong:
        shown = "; ".join(text for _, text in sorted(wrong, key=lambda w: -w[0])[:_SHOWN])
        raise ParityError(
            f"{release} answers {len(wrong)} of {rows} golden values otherwise than its author saw: {shown}.",
            "Export the model again and deploy that.",
        )
    return rows


def first_row(golden: Golden) -> dict[str, list[Any]]:
    """The smallest real request: proves that a model answers."""
    return {name: values[:1] for name, values in golden.inputs.items()}


def _rows(golden: Golden) -> int:
    return len(next(iter(golden.inputs.values())))


def _batches(inputs: Mapping[str, list[Any]], rows: int, size: int) -> Iterator[dict[str, list[Any]]]:
    for start in range(0, rows, size):
        yield {name: values[start : start + size] for name, values in inputs.items()}


def _differences(release: Release, answered: Mapping[str, list[Any]], rows: int) -> Iterator[tuple[float, str]]:
    """`(how far off, words)` of each golden value that is not repeated."""
    golden = release.golden
    real = {column.name for column in release.signature.outputs if column.dtype in ("FP32", "FP64")}
    for name, expected in golden.outputs.items():
        got = answered[name]
        if len(got) != rows:
            yield math.inf, f"{name}: {len(got)} rows for {rows}"
            continue
        off = _off_by(golden) if name in real else _differs
        for row, (want, have) in enumerate(zip(expected, got, strict=True)):
            distance = _distance(want, have, off)
            if distance > 0:
                yield distance, f"row {row}, {name}: {have!r} for {want!r}"


def _distance(want: Any, have: Any, off: Callable[[Any, Any], float]) -> float:
    """How far off, 0 if not at all; lists are compared element by element."""
    if not isinstance(want, list) and not isinstance(have, list):
        return off(want, have)
    if not (isinstance(want, list) and isinstance(have, list) and len(want) == len(have)):
        return math.inf
    return max((_distance(w, h, off) for w, h in zip(want, have, strict=True)), default=0.0)


def _differs(want: Any, have: Any) -> float:
    """Labels, counts and text are the same or not."""
    return 0.0 if type(want) is type(have) and want == have else math.inf


def _off_by(golden: Golden) -> Callable[[Any, Any], float]:
    def off(want: Any, have: Any) -> float:
        """Real numbers are the same within `atol + rtol * |expected|`; None and NaN are no number."""
        want, have = (math.nan if value is None else value for value in (want, have))
        if not (_is_number(want) and _is_number(have)):
            return math.inf
        if want == have or (math.isnan(want) and math.isnan(have)):
            return 0.0
        apart = abs(want - have)
        return 0.0 if apart <= golden.atol + golden.rtol * abs(want) else (math.inf if math.isnan(apart) else apart)

    return off


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
