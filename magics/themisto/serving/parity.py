"""The parity gate: a model and its export answer the same sample, and every row must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from themisto.display import Table
from themisto.errors import Invalid, ParityError
from themisto.serving.exporters.answers import LABEL, PROBABILITIES
from themisto.serving.frame import Tensors, to_json
from themisto.serving.models import Golden
from themisto.types import Model

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Parity", "Tolerance", "compare", "golden_of"]

_WORST = 5
_GOLDEN_ROWS = 32
_SHOWN_COLUMNS = 8


class Tolerance(Model):
    """An answer agrees when `|got - expected| <= atol * scale + rtol * |expected|`.

    scale: 1, or the median size of the expected values where that is larger: ONNX computes in FP32,
        whose error near zero is that of the sums which cancelled there. Golden requests carry
        `atol * scale` already: they are compared with `scale=False`.
    """

    rtol: float = 1e-4
    atol: float = 1e-5
    scale: bool = True

    def scaled(self, expected: np.ndarray[Any, Any]) -> float:
        """`atol * scale` for these expected values."""
        if not self.scale or expected.dtype.kind != "f" or not expected.size:
            return self.atol
        finite = np.abs(expected[np.isfinite(expected)])
        return self.atol * max(1.0, float(np.median(finite)) if finite.size else 1.0)


@dataclass(frozen=True)
class Parity:
    """What the gate found: rows compared, the largest difference, and the absolute tolerance used."""

    rows: int
    worst: float
    atol: float

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{rows} agree, largest difference {self.worst:.2g}"


def compare(expected: Tensors, got: Tensors, frame: pd.DataFrame, tolerance: Tolerance) -> Parity:
    """Compare all rows. A label may differ only where its two best probabilities are a tie.

    Raises ParityError with the worst rows as a table: expected, got, difference and the row itself.
    """
    rows = len(frame)
    off = np.zeros(rows)  # how many tolerances away
    differences: dict[str, np.ndarray[Any, Any]] = {}
    atols = [tolerance.atol]
    for name, want in expected.items():
        have = got.get(name)
        if have is None or have.shape != want.shape:
            raise ParityError(
                f"The export answers '{name}' with shape {None if have is None else have.shape}, not {want.shape}.",
                "Nothing was deployed. Tell the platform team which model this was.",
            )
        difference = _difference(want, have)
        if name == LABEL and PROBABILITIES in expected:
            difference = np.where(_tied(expected[PROBABILITIES], tolerance), 0.0, difference)
        atols.append(tolerance.scaled(want))
        allowed = atols[-1] + tolerance.rtol * _size(want)
        off = np.maximum(off, (difference / allowed).reshape(rows, -1).max(axis=1))
        differences[name] = difference.reshape(rows, -1).max(axis=1)
    bad = np.flatnonzero(~(off <= 1.0))
    if len(bad):
        worst = bad[np.argsort(-np.nan_to_num(off[bad], nan=np.inf), kind="stable")][:_WORST]
        raise ParityError(
            f"The export answers {len(bad):,} of {rows:,} rows otherwise than the model.\n"
            f"{_table(worst, expected, got, differences, frame)}\n",
            "Nothing was deployed. Numbers are served as 32-bit floats: a tree behind a scaler is sensitive to that; "
            "train on unscaled columns (trees need no scaler), or serve the model in its own library: --native "
            "(native=True).",
        )
    numbers = [d.max() for name, d in differences.items() if expected[name].dtype.kind == "f" and d.size]
    return Parity(rows=rows, worst=float(max(numbers, default=0.0)), atol=max(atols))


def _difference(want: np.ndarray[Any, Any], have: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Absolute difference; infinite where values that are not numbers, or only one NaN, differ."""
    if want.dtype.kind != "f":
        return np.where(want == have, 0.0, np.inf)
    first, second = want.astype(np.float64), have.astype(np.float64)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):
        apart = np.abs(first - second)
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def _size(want: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if want.dtype.kind != "f":
        return np.zeros(want.shape)
    size: np.ndarray[Any, Any] = np.nan_to_num(np.abs(want.astype(np.float64)), posinf=0.0)
    return size


def _tied(probabilities: np.ndarray[Any, Any], tolerance: Tolerance) -> np.ndarray[Any, Any]:
    """Rows `(rows, 1)` whose two best classes are nearer than the tolerance tells apart."""
    if probabilities.shape[1] < 2:
        return np.zeros((len(probabilities), 1), dtype=bool)
    best = np.sort(probabilities, axis=1)[:, -2:]
    tied: np.ndarray[Any, Any] = (best[:, 1] - best[:, 0] <= 2 * (tolerance.atol + tolerance.rtol))[:, None]
    return tied


def _table(
    rows: np.ndarray[Any, Any],
    expected: Tensors,
    got: Tensors,
    differences: dict[str, np.ndarray[Any, Any]],
    frame: pd.DataFrame,
) -> Table:
    """The worst rows, by the output that is furthest off in the first of them."""
    name = max(differences, key=lambda n: (np.isfinite(differences[n][rows[0]]), differences[n][rows[0]]))
    want, have = to_json(expected)[name], to_json(got)[name]
    shown = [str(c) for c in frame.columns[:_SHOWN_COLUMNS]]
    cells = [
        [int(i), _short(want[i]), _short(have[i]), float(differences[name][i])]
        + [_short(v) for v in frame.iloc[int(i), :_SHOWN_COLUMNS].tolist()]
        for i in rows
    ]
    return Table(["row", f"expected {name}", "got", "difference", *shown], cells, title="The worst rows:")


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return "[" + ", ".join(str(_short(v)) for v in value) + "]"
    return f"{value:.6g}" if isinstance(value, float) else value


def golden_of(inputs: Tensors, expected: Tensors, parity: Parity, tolerance: Tolerance) -> Golden:
    """Up to 32 rows, spread over the sample, with the model's own answers.

    Rows with a tie between two classes or an answer that is not a number are left out while there are
    others: any faithful copy may answer them either way. JSON knows no infinities: rows that hold one
    are left out, and Invalid is raised where no other is left.
    """
    writable = np.ones(parity.rows, dtype=bool)
    for array in (*inputs.values(), *expected.values()):
        if array.dtype.kind == "f":
            writable &= ~np.isinf(array.reshape(parity.rows, -1)).any(axis=1)
    if not writable.any():
        raise Invalid(
            "Every row of the sample holds an infinity, or is answered with one.",
            "Give rows as callers will send them: replace infinities by numbers or NaN.",
        )
    good = writable.copy()
    for array in expected.values():
        if array.dtype.kind == "f":
            good &= np.isfinite(array.reshape(parity.rows, -1)).all(axis=1)
    if PROBABILITIES in expected:
        good &= ~_tied(expected[PROBABILITIES], tolerance)[:, 0]
    rows = np.flatnonzero(good if good.any() else writable)
    rows = rows[np.linspace(0, len(rows) - 1, min(_GOLDEN_ROWS, len(rows))).astype(int)]
    return Golden(
        inputs=to_json({name: array[rows] for name, array in inputs.items()}),
        outputs=to_json({name: array[rows] for name, array in expected.items()}),
        rtol=tolerance.rtol,
        atol=parity.atol,
    )
