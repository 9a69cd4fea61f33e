"""Plain Python functions of a DataFrame, as Triton Python models."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from themisto.errors import Invalid
from themisto.serving.exporter import Export
from themisto.serving.exporters.answers import PREDICTION
from themisto.serving.exporters.hints import hinted
from themisto.serving.frame import columns_of
from themisto.serving.models import Column, Dtype, Signature
from themisto.serving.packed import pack
from themisto.serving.portable.values import encode

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors

__all__ = ["Function"]

_SPLIT_ROWS = 3


class Function:
    """`def predict(df: pd.DataFrame) -> pd.Series | np.ndarray | dict | pd.DataFrame`.

    A Series, list or array is the output `prediction`; a DataFrame or dict names its outputs. A return
    annotation of plain types says what they are (`themisto.serving.exporters.hints`); without, the
    answers to the sample do. The function must answer row by row: the model server puts rows of several
    callers together.
    """

    packages = ("numpy", "pandas")

    def accepts(self, model: object) -> bool:
        return isinstance(model, FunctionType)

    def columns(self, model: Any) -> tuple[str, ...] | None:
        return None

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        outputs, answers = _answered(model, frame)
        _require_rowwise(model, frame, outputs, answers)
        return answers

    def outputs(self, model: Any, frame: pd.DataFrame) -> tuple[Column, ...]:
        """The columns of `answers`."""
        return _answered(model, frame)[0]

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        return self.exported(model, frame, columns_of(frame))

    def exported(self, model: Any, frame: pd.DataFrame, inputs: tuple[Column, ...]) -> Export:
        """`export` for a frame whose columns are known already."""
        from themisto.serving.source import standalone

        source = standalone(model)
        signature = Signature(inputs=inputs, outputs=self.outputs(model, frame))
        files = {"function.py": source, "signature.json": signature.model_dump_json()}
        return Export(kind="python", data=pack(files), signature=signature)


def _call(function: Any, frame: pd.DataFrame) -> Any:
    try:
        return function(frame.copy())
    except Exception as error:
        raise Invalid(
            f"'{function.__name__}' fails on the sample: {type(error).__name__}: {error}",
            "It is called with a DataFrame of the sample's columns and returns an answer for each row.",
        ) from error


def _answered(function: Any, frame: pd.DataFrame) -> tuple[tuple[Column, ...], Tensors]:
    """Its outputs, as its annotation or else its answers say, and the answers."""
    parts = _named(function.__name__, _call(function, frame), len(frame))
    stated = hinted(function)
    if stated is None:
        outputs = tuple(_output(function.__name__, name, values) for name, values in parts.items())
    else:
        outputs = _as_hinted(function.__name__, stated, parts)
    return outputs, {c.name: _encoded(function.__name__, parts[c.name], c) for c in outputs}


def _named(name: str, answer: Any, rows: int) -> dict[str, Any]:
    """The answer by output: each with one value, or one row of values, for each row."""
    import pandas as pd

    parts = dict(answer) if isinstance(answer, dict | pd.DataFrame) else {PREDICTION: answer}
    for values in parts.values():
        count = len(values) if np.ndim(values) else 1
        if count != rows or not parts:
            raise Invalid(
                f"'{name}' answers {count} values for {rows} rows.",
                "Return one answer for each row: a Series, an array, or a DataFrame.",
            )
    return {str(key): values for key, values in parts.items()}


def _as_hinted(name: str, stated: tuple[Column, ...], parts: dict[str, Any]) -> tuple[Column, ...]:
    wanted = {c.name for c in stated}
    if len(stated) == 1 and len(parts) == 1:
        parts[stated[0].name] = next(iter(parts.values()))
    elif wanted != set(parts):
        raise Invalid(
            f"'{name}' says it answers {', '.join(sorted(wanted))}, and answers {', '.join(sorted(parts))}.",
            "Make its return annotation and its answer the same.",
        )
    return stated


def _output(function: str, name: str, values: Any) -> Column:
    """What the values are: one a row as a DataFrame's column would be, several a row as an array."""
    import pandas as pd

    array = np.asarray(values)
    if array.ndim > 1 and array.shape[1:] != (1,):
        array = array.reshape(len(array), -1)
        return Column(name=name, dtype=_wide(function, array), shape=array.shape[1:])
    series = values if isinstance(values, pd.Series) else pd.Series(array.reshape(-1) if array.ndim > 1 else values)
    try:
        (column,) = columns_of(pd.DataFrame({name: series.reset_index(drop=True)}))
    except Invalid as error:
        raise Invalid(f"'{function}' answers no plain values. {error.detail}", error.remedy) from error
    return column


def _wide(function: str, array: np.ndarray[Any, Any]) -> Dtype:
    kinds: dict[str, Dtype] = {"i": "INT64", "u": "INT64", "b": "BOOL", "f": "FP64"}
    if array.dtype == np.float32:
        return "FP32"
    if array.dtype.kind in kinds:
        return kinds[array.dtype.kind]
    if array.dtype.kind in "OUST" and all(isinstance(v, str) for v in array.flat):
        return "BYTES"
    raise Invalid(
        f"'{function}' answers {array.dtype} values; an answer is numbers, booleans, strings or times.",
        "Convert them in the function, e.g. .astype(float).",
    )


def _encoded(function: str, values: Any, column: Column) -> np.ndarray[Any, Any]:
    try:
        return encode(values, column)
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(
            f"'{function}' answers '{column.name}' with values that are no {column.logical or column.dtype}: {error}.",
            "Convert them in the function, or correct its return annotation.",
        ) from error


def _require_rowwise(function: Any, frame: pd.DataFrame, outputs: Sequence[Column], answers: Tensors) -> None:
    """Rows asked alone must be answered as in company."""
    head = frame.head(_SPLIT_ROWS)
    parts = _named(function.__name__, _call(function, head), len(head))
    if len(outputs) == 1 and len(parts) == 1:
        parts = {outputs[0].name: next(iter(parts.values()))}
    for column in outputs:
        company = answers[column.name][:_SPLIT_ROWS]
        alone = _encoded(function.__name__, parts[column.name], column) if column.name in parts else company[:0]
        numbers = company.dtype.kind == "f" and alone.shape == company.shape
        same = np.allclose(alone, company, equal_nan=True) if numbers else np.array_equal(alone, company)
        if not same:
            raise Invalid(
                f"'{function.__name__}' answers the first rows otherwise when they come alone.",
                "An answer may depend on its own row only: fix means and ranks beforehand, as constants.",
            )
