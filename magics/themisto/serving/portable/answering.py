"""Answering: a deployed function in its folder. Tensors in, a DataFrame to its `predict`, tensors out.

The folder holds `function.py`, which defines `predict`, and `signature.json`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from .values import encode, frame_of

__all__ = ["Answering", "signature_of"]

_ABSENT = {"logical": None, "zone": None, "missing": None, "shape": (1,)}


class Answering:
    """One function, loaded. Raises what its module raises."""

    def __init__(self, folder: Path) -> None:
        self._inputs, self._outputs = signature_of(folder)
        sys.path.insert(0, str(folder))
        spec = importlib.util.spec_from_file_location("function", folder / "function.py")
        if spec is None or spec.loader is None:
            raise ImportError("function.py cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        sys.modules["function"] = module
        spec.loader.exec_module(module)
        self._predict = module.predict

    def __call__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Every output, `(rows, *shape)`, text as str. Raises what `predict` raises, or ValueError for its answer."""
        rows = len(next(iter(arrays.values())))
        answer = self._predict(frame_of(arrays, self._inputs))
        return {c.name: _output(_pick(answer, self._outputs, i), c, rows) for i, c in enumerate(self._outputs)}


def signature_of(folder: Path) -> tuple[list[SimpleNamespace], list[SimpleNamespace]]:
    """Inputs and outputs as `values` reads columns, from `signature.json`."""
    stated = json.loads((folder / "signature.json").read_text())
    inputs, outputs = ([SimpleNamespace(**{**_ABSENT, **one}) for one in stated[s]] for s in ("inputs", "outputs"))
    return inputs, outputs


def _pick(answer: Any, outputs: list[SimpleNamespace], index: int) -> Any:
    """The values of one output in what the function answered."""
    name = outputs[index].name
    if isinstance(answer, dict | pd.DataFrame):
        if len(outputs) == 1 and name not in answer and len(list(answer)) == 1:
            return answer[next(iter(answer))]
        return answer[name]
    return answer if len(outputs) == 1 else np.asarray(answer)[:, index]


def _output(values: Any, column: SimpleNamespace, rows: int) -> np.ndarray[Any, Any]:
    count = len(values) if np.ndim(values) else 1
    if count != rows:
        raise ValueError(f"predict answered {count} rows for {rows}")
    try:
        return encode(values, column)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"'{column.name}' is not {column.logical or column.dtype}: {error}") from None
