"""How values travel between steps: a folder with the value in an open format and a manifest that names it.

parquet     pandas DataFrame and Series, polars DataFrame, pyarrow Table
json        numbers, text, true/false, None, and lists and dicts of them
npy         numpy arrays of plain numbers
onnx        ONNX models
lightgbm    LightGBM boosters, as text
xgboost     XGBoost boosters and estimators, as UBJSON
skops       scikit-learn estimators and pipelines, LightGBM's estimators
pickle      anything, only when asked for: loading one runs code
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from themisto.errors import Failed, Invalid, NotFound
from themisto.types import Model, Sha256

__all__ = ["Manifest", "format_of", "load", "manifest", "save"]

_MANIFEST = "manifest.json"
_TRUSTED = ("sklearn.", "lightgbm.", "xgboost.", "collections.")


class Manifest(Model):
    """What lies in a value's folder. `type` is the Python type it came from; `sha256` is of the file."""

    format: str
    type: str
    file: str
    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True)
class _Format:
    """One open format: whose values it takes, and both ways. Functions import what they need."""

    name: str
    file: str
    takes: Callable[[Any], bool]
    write: Callable[[Any, Path], None]
    read: Callable[[Path, str], Any]


def format_of(value: Any) -> str | None:
    """The format `value` travels in, or None where only a pickle would do."""
    return next((f.name for f in _FORMATS if f.takes(value)), None)


def save(value: Any, folder: Path, *, format: str = "", name: str = "value") -> Manifest:
    """Write `value` into `folder` (made here). Raises Invalid where it cannot travel."""
    chosen = _BY_NAME.get(format or format_of(value) or "")
    if chosen is None:
        raise Invalid(
            f"'{name}' is a {_type_of(value)}, which has no format to travel in.",
            f"Hand on a DataFrame, a model or plain data instead, or say -o {name}:pickle.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / chosen.file
    try:
        chosen.write(value, path)
    except Exception as error:
        raise Invalid(
            f"'{name}' ({_type_of(value)}) cannot be written as {chosen.name}: {error}.",
            f"Change the value, or say -o {name}:pickle.",
        ) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = Manifest(
        format=chosen.name,
        type=_type_of(value),
        file=chosen.file,
        sha256=digest,
        size_bytes=path.stat().st_size,
    )
    (folder / _MANIFEST).write_text(found.model_dump_json())
    return found


def manifest(folder: Path) -> Manifest:
    """The manifest of the value in `folder`. Raises NotFound."""
    try:
        return Manifest.model_validate_json((folder / _MANIFEST).read_text())
    except FileNotFoundError:
        raise NotFound(f"There is no value in {folder}.", "Run the pipeline again.") from None


def load(folder: Path) -> Any:
    """The value in `folder`. Raises Failed where the file is not what its manifest says."""
    found = manifest(folder)
    path = folder / found.file
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != found.sha256:
            raise Failed(f"The value in {folder} was changed after it was written.", "Run the step that makes it.")
    return _BY_NAME[found.format].read(path, found.type)


def _type_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _bases(value: Any) -> set[str]:
    """Full names of the value's classes: types are recognised without importing their libraries."""
    return {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(value).__mro__}


def _is(*names: str) -> Callable[[Any], bool]:
    return lambda value: not _bases(value).isdisjoint(names)


def _write_parquet(value: Any, path: Path) -> None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(value, pa.Table):
        pq.write_table(value, path)
    elif isinstance(value, pd.Series):
        value.to_frame(name="value" if value.name is None else value.name).to_parquet(path)
    elif isinstance(value, pd.DataFrame):
        value.to_parquet(path)
    else:
        value.write_parquet(path)


def _read_parquet(path: Path, type_name: str) -> Any:
    import pandas as pd
    import pyarrow.parquet as pq

    if type_name.startswith("pyarrow."):
        return pq.read_table(path)
    if type_name.startswith("polars."):
        return importlib.import_module("polars").read_parquet(path)
    frame = pd.read_parquet(path)
    return frame.iloc[:, 0] if type_name.endswith(".Series") else frame


def _plain(value: Any) -> Any:
    """numpy's scalars as Python's; everything else as it is."""
    item = getattr(value, "item", None)
    return item() if type(value).__module__ == "numpy" and item and getattr(value, "ndim", 1) == 0 else value


def _is_json(value: Any) -> bool:
    """Whether JSON gives back exactly this value: no tuples, sets, dates or keys that are not text."""
    value = _plain(value)
    if isinstance(value, list):
        return all(_is_json(v) for v in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) for k in value) and all(_is_json(v) for v in value.values())
    return value is None or type(value) in (bool, int, float, str)


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, default=_plain))


def _read_json(path: Path, _: str) -> Any:
    return json.loads(path.read_text())


def _is_plain_array(value: Any) -> bool:
    return "numpy.ndarray" in _bases(value) and not value.dtype.hasobject


def _write_npy(value: Any, path: Path) -> None:
    import numpy as np

    np.save(path, value, allow_pickle=False)


def _read_npy(path: Path, _: str) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def _write_onnx(value: Any, path: Path) -> None:
    path.write_bytes(value.SerializeToString())


def _read_onnx(path: Path, _: str) -> Any:
    import onnx

    return onnx.load(path)


def _write_lightgbm(value: Any, path: Path) -> None:
    value.save_model(str(path))


def _read_lightgbm(path: Path, _: str) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=str(path))


def _write_xgboost(value: Any, path: Path) -> None:
    value.save_model(path)


def _read_xgboost(path: Path, type_name: str) -> Any:
    import xgboost

    kind = getattr(xgboost, type_name.rpartition(".")[2])
    model = kind()
    model.load_model(path)
    return model


def _write_skops(value: Any, path: Path) -> None:
    from skops import io

    io.dump(value, path)
    _trusted(path)


def _read_skops(path: Path, _: str) -> Any:
    from skops import io

    return io.load(path, trusted=_trusted(path))


def _trusted(path: Path) -> list[str]:
    """The types in a skops file beyond skops' own list. Raises Invalid for one of no known library."""
    from skops import io

    found: list[str] = io.get_untrusted_types(file=path)
    foreign = [name for name in found if not name.startswith(_TRUSTED)]
    if foreign:
        raise Invalid(f"it holds {', '.join(foreign)}, which only a pickle can carry")
    return found


def _write_pickle(value: Any, path: Path) -> None:
    import pickle

    path.write_bytes(pickle.dumps(value))


def _read_pickle(path: Path, _: str) -> Any:
    import pickle

    return pickle.loads(path.read_bytes())  # noqa: S301 - asked for by name, made by an earlier step


_FRAMES = ("pandas.DataFrame", "pandas.Series", "polars.DataFrame", "pyarrow.Table")
_FORMATS = (
    _Format("parquet", "value.parquet", _is(*_FRAMES), _write_parquet, _read_parquet),
    _Format("json", "value.json", _is_json, _write_json, _read_json),
    _Format("npy", "value.npy", _is_plain_array, _write_npy, _read_npy),
    _Format("onnx", "model.onnx", _is("onnx.ModelProto"), _write_onnx, _read_onnx),
    _Format("lightgbm", "model.txt", _is("lightgbm.Booster"), _write_lightgbm, _read_lightgbm),
    _Format("xgboost", "model.ubj", _is("xgboost.Booster", "xgboost.XGBModel"), _write_xgboost, _read_xgboost),
    _Format("skops", "model.skops", _is("sklearn.BaseEstimator"), _write_skops, _read_skops),
)
_PICKLE = _Format("pickle", "value.pickle", lambda _: False, _write_pickle, _read_pickle)
_BY_NAME = {f.name: f for f in (*_FORMATS, _PICKLE)}
