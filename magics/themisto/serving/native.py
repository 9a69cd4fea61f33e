"""Native: a model served in its own library, where ONNX does not answer as it does or nothing exports it.

The model runs in an environment of the packages it was made with (`themisto.serving.pinned`), in its
group's own model server. The parity gate and its tolerance are the same as for an export.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from themisto.errors import Invalid, ThemistoError
from themisto.serving import stored
from themisto.serving.exporter import Export, Exporter, describe
from themisto.serving.exporters.answers import LABEL, PREDICTION, PROBABILITIES, label_of, numbers_of
from themisto.serving.exporters.conversion import from_package
from themisto.serving.frame import columns_of
from themisto.serving.models import Column, Dtype, Signature
from themisto.serving.packed import pack
from themisto.serving.pinned import modules_of, pinned

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors

__all__ = ["Native"]

_MAX_CATEGORIES = 100_000


class Native:
    """Wraps the model's own exporter, or none where nothing else knows the model."""

    def __init__(self, exporter: Exporter | None) -> None:
        self.exporter = exporter
        self.packages = exporter.packages if exporter is not None else ()

    @staticmethod
    def of(exporter: Exporter) -> Exporter:
        """A function runs as Python anyway, and a chain knows its own model."""
        as_native = getattr(exporter, "as_native", None)
        if as_native is not None:
            found: Exporter = as_native()
            return found
        return Native(exporter)

    @staticmethod
    def fits(model: object) -> bool:
        """Whether it can be asked at all: it has a predict."""
        return not isinstance(model, type) and callable(getattr(model, "predict", None))

    def accepts(self, model: object) -> bool:
        return self.fits(model)

    def columns(self, model: Any) -> tuple[str, ...] | None:
        if self.exporter is not None:
            return self.exporter.columns(model)
        names = getattr(model, "feature_names_in_", None)
        return None if names is None else tuple(str(n) for n in names)

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        if self.exporter is not None:
            return self.exporter.answers(model, frame)
        if hasattr(model, "predict_proba") and hasattr(model, "classes_"):
            return {LABEL: label_of(model.predict(frame)), PROBABILITIES: numbers_of(model.predict_proba(frame))}
        return {PREDICTION: numbers_of(model.predict(frame))}

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        if not self.fits(model):
            raise Invalid(
                f"This is {describe(model)}, which has no predict.", "Only a model with a predict is served natively."
            )
        signature = Signature(inputs=columns_of(frame), outputs=_outputs(self.answers(model, frame.head(2))))
        pickled = _pickled(model)
        modules = modules_of(pickled)
        held, trusted, keeper = _held(model, pickled)
        told = {
            "dtypes": {str(name): _dtype(str(name), frame[name]) for name in frame.columns},
            "by_name": not (from_package(model, "sklearn") and self.columns(model) is None),
            "outputs": [c.name for c in signature.outputs],
            "trusted": trusted,
        }
        files: dict[str, str | bytes] = {
            "function.py": Path(stored.__file__).read_text(),
            "signature.json": signature.model_dump_json(),
            "requirements.txt": pinned(modules, ["numpy", "pandas", keeper]),
            "model.json": json.dumps(told),
            **held,
        }
        return Export(kind="python", data=pack(files), signature=signature)


def _outputs(answers: Tensors) -> tuple[Column, ...]:
    """As the model answers: numbers are not made FP32."""
    dtypes: Mapping[str, Dtype] = {"b": "BOOL", "i": "INT64", "O": "BYTES"}
    return tuple(
        Column(
            name=name,
            dtype=dtypes.get(a.dtype.kind) or ("FP32" if a.dtype == np.float32 else "FP64"),
            shape=a.shape[1:],
        )
        for name, a in answers.items()
    )


def _dtype(name: str, values: pd.Series[Any]) -> dict[str, Any]:
    """What `stored.as_fitted` needs to make the column what the sample's is."""
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = dtype.categories.tolist()
        if len(categories) > _MAX_CATEGORIES or not all(isinstance(c, str | int | float) for c in categories):
            raise Invalid(f"The categories of '{name}' are no strings or numbers.", f"Use df['{name}'].astype(str).")
        return {"categories": categories, "ordered": bool(dtype.ordered)}
    none = pd.api.types.is_object_dtype(dtype) and any(v is None for v in values)
    return {"dtype": str(dtype), "missing": "none" if none else "nan"}


def _pickled(model: Any) -> bytes:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(model)
    except Exception as error:
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise Invalid(
            f"This is {describe(model)} that cannot be stored: {cause}", "Leave out of it what holds files or locks."
        ) from error
    return data


def _held(model: Any, pickled: bytes) -> tuple[dict[str, bytes], list[str], str]:
    """The model as a file, the types that its reader shall trust, and the package that reads it.

    As skops, which runs no code when it is read, for what skops holds; as a pickle for the rest.
    """
    if from_package(model, "sklearn", "lightgbm"):
        try:
            import skops.io

            data = skops.io.dumps(model)
            trusted = list(skops.io.get_untrusted_types(data=data))
            skops.io.loads(data, trusted=trusted)
        except (ThemistoError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - skops says in many ways that it does not know a type
            return {"model.pickle": pickled}, [], "cloudpickle"
        return {"model.skops": _counted(data)}, sorted(trusted), "skops"
    return {"model.pickle": pickled}, [], "cloudpickle"


def _counted(skops: bytes) -> bytes:
    """The same bytes for the same model: skops names parts by their places in memory."""
    with zipfile.ZipFile(io.BytesIO(skops)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop("schema.json"))
    places: dict[int, int] = {}
    names: dict[str, str] = {}

    def count(node: Any) -> Any:
        if isinstance(node, list):
            return [count(one) for one in node]
        if not isinstance(node, dict):
            return node
        found = dict(node)
        if isinstance(found.get("__id__"), int):
            found["__id__"] = places.setdefault(found["__id__"], len(places) + 1)
        if isinstance(found.get("file"), str) and found["file"] in files:
            old = found["file"]
            names.setdefault(old, f"{len(names) + 1}{Path(old).suffix}")
            found["file"] = names[old]
        return {key: value if key in ("__id__", "file") else count(value) for key, value in found.items()}

    counted = json.dumps(count(schema))
    return pack({"schema.json": counted, **{new: files[old] for old, new in names.items()}})
