"""Hold-out: labelled rows that a release is judged on, checked in the kernel and made one Parquet file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt

from themisto.errors import Invalid, NotFound
from themisto.serving.classes import classes_in
from themisto.serving.frame import Tensors, pick, tensors
from themisto.serving.gates import METRICS, parse
from themisto.serving.judging import MAX_SLICES
from themisto.serving.metrics import Answered, require_outputs
from themisto.serving.models import Column, Signature
from themisto.types import Model, Sha256, Slug, UserName, UtcTime

__all__ = [
    "MAX_BYTES",
    "MAX_ROWS",
    "HoldOut",
    "HoldOutRequest",
    "answered",
    "frame_digests",
    "inputs_of",
    "read_frame",
    "require_fit",
    "require_frame",
    "require_labels",
    "require_unseen",
    "to_parquet",
]

MAX_ROWS = 1_000_000
MAX_BYTES = 256 * 2**20
"""Of the Parquet file."""


class HoldOutRequest(Model):
    """What the group says of a hold-out whose bytes it has uploaded."""

    sha256: Sha256
    group: Slug
    name: Annotated[str, Field(min_length=1, max_length=100)]
    rows: PositiveInt
    columns: Annotated[tuple[str, ...], Field(max_length=5000)]
    digests: Annotated[tuple[Sha256, ...], Field(max_length=100)] = ()
    """Of the whole frame, with and without its label, as a run records its data."""


class HoldOut(HoldOutRequest):
    """A hold-out that is stored; its rows are judged on and never handed out."""

    size_bytes: NonNegativeInt
    stored_by: UserName
    stored_at: UtcTime


def read_frame(path: Path) -> pd.DataFrame:
    """A Parquet or CSV file as a DataFrame. Raises NotFound, Invalid."""
    kind = path.suffix.lower()
    if kind not in (".parquet", ".pq", ".csv"):
        raise Invalid(f"'{path.name}' is no hold-out that can be read.", "Give a .parquet or a .csv file.")
    try:
        if path.stat().st_size > 8 * MAX_BYTES:
            raise _too_large(f"{path.stat().st_size / 2**20:,.0f} MiB")
        frame: pd.DataFrame = pd.read_csv(path) if kind == ".csv" else pd.read_parquet(path)
    except FileNotFoundError:
        raise NotFound(f"There is no file '{path}'.", "Give the path of a .parquet or .csv file.") from None
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise Invalid(f"'{path.name}' cannot be read: {cause}", "Write it again with df.to_parquet(path).") from None
    return frame


def require_frame(frame: Any) -> None:
    """Raises Invalid for what is no DataFrame of some rows, each column under one name."""
    if not isinstance(frame, pd.DataFrame):
        raise Invalid(f"The hold-out is a {type(frame).__name__}, not a DataFrame.", "Give rows with their label.")
    if frame.empty:
        raise Invalid("The hold-out has no rows.", "Give rows that the model was not fitted on, with their labels.")
    if len(frame) > MAX_ROWS:
        raise _too_large(f"{len(frame):,} rows")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise Invalid(f"The column '{twice}' is there twice.", "Give each column a name of its own.")


def require_labels(frame: pd.DataFrame, label: str, by: Iterable[str], gates: Sequence[str]) -> None:
    """What can be known of a hold-out without a model. Raises Invalid."""
    require_frame(frame)
    columns = list(by)
    pick(frame, [label, *columns], whose="the gates (--label, --by)")
    missing = int(frame[label].isna().sum())
    if missing:
        raise Invalid(
            f"The label '{label}' is missing in {missing:,} of {len(frame):,} rows.",
            f"Leave them out: df.dropna(subset=['{label}']).",
        )
    for column in columns:
        distinct = int(frame[column].nunique())
        if distinct > MAX_SLICES:
            raise Invalid(
                f"'{column}' has {distinct:,} values; slices are by at most {MAX_SLICES}.",
                f"Give it coarser, for example pd.cut(df['{column}'], 5).astype(str).",
            )
    _require_classes(frame[label], gates)
    sliced = [g for g in gates if parse(g).over != "rows"]
    if sliced and not columns:
        raise Invalid(f"'{sliced[0]}' is about slices, and no column is named to slice by.", "Name it: --by COLUMN.")


def _require_classes(label: pd.Series[Any], gates: Sequence[str]) -> None:
    of_two = [g for g in gates if parse(g).metric in ("auc", "average_precision", "ks", "recall")]
    if of_two and label.nunique() < 2:
        raise Invalid(
            f"Every row of the hold-out has the label {label.iloc[0]}: '{of_two[0]}' has nothing to tell apart.",
            "Give rows of more than one class.",
        )
    for gate in gates:
        if METRICS[parse(gate).metric].reads != ("prediction",):
            try:
                classes_in(_plain(label))
            except Invalid as error:
                raise Invalid(f"'{gate}' cannot be judged: {error.detail}", error.remedy) from None


def require_fit(frame: pd.DataFrame, label: str, gates: Sequence[str], signature: Signature) -> None:
    """The hold-out against the model: its columns, their types, and outputs that the gates can read.

    Raises Invalid.
    """
    for gate in gates:
        require_outputs(parse(gate).metric, tuple(column.name for column in signature.outputs))
    names = [column.name for column in signature.inputs]
    if label in names:
        raise Invalid(
            f"'{label}' is the label and also what the model takes: it would be judged on the answer it was given.",
            "Fit the model without it, or name another label.",
        )
    tensors(pick(frame, names, whose="the model"), signature.inputs)


def frame_digests(frame: pd.DataFrame, label: str) -> tuple[str, str]:
    """Digests by which a run may have recorded these very rows: with the label, and without it."""
    from themisto.tracking.digest import digest

    return digest("hold-out", frame).sha256, digest("hold-out", frame.drop(columns=[label])).sha256


def require_unseen(digests: Iterable[str], trained_on: str | None) -> None:
    """Raises Invalid where the run was fitted on the rows that have these digests."""
    if trained_on is not None and trained_on in digests:
        raise Invalid(
            "The hold-out is the training data: its digest is that of the run's data.",
            "Give rows that the model has not seen.",
        )


def to_parquet(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[bytes, str]:
    """Those columns as one Parquet file and its SHA-256; the same rows give the same bytes. Raises Invalid."""
    kept = frame[list(dict.fromkeys(columns))].reset_index(drop=True)
    buffer = io.BytesIO()
    kept.to_parquet(buffer, engine="pyarrow", compression="zstd", index=False)
    data = buffer.getvalue()
    if len(data) > MAX_BYTES:
        raise _too_large(f"{len(data) / 2**20:,.0f} MiB")
    return data, hashlib.sha256(data).hexdigest()


def answered(frame: pd.DataFrame, outputs: Tensors, label: str, by: Sequence[str]) -> Answered:
    """A model's answers beside the truth and the slices of the rows it answered."""
    slices = {column: frame[column].astype(object).where(frame[column].notna(), "").astype(str) for column in by}
    return Answered(_plain(frame[label]), outputs, {name: values.to_numpy() for name, values in slices.items()})


def _plain(values: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """As numpy's own types: text as objects, nullable integers and booleans as theirs."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    kind = getattr(values.dtype, "kind", "O")
    if kind in "biuf":
        return values.to_numpy(dtype=np.dtype(str(values.dtype).lower().replace("boolean", "bool")))
    return values.to_numpy(dtype=object)


def inputs_of(frame: pd.DataFrame, columns: Sequence[Column], *, whose: str) -> Tensors:
    """What a model is asked: its columns of the hold-out. Raises Invalid naming those that are missing."""
    return tensors(pick(frame, [column.name for column in columns], whose=whose), columns)


def _too_large(size: str) -> Invalid:
    return Invalid(
        f"The hold-out is too large: {size}.",
        f"Give a sample of at most {MAX_ROWS:,} rows and {MAX_BYTES // 2**20} MiB: df.sample(100_000, random_state=0).",
    )
