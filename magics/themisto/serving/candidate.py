"""Candidate: a model made ready to be a release: sample checked, exported, compared, with its golden requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from themisto.errors import Failed, Invalid, ThemistoError
from themisto.serving.checks import odd_values, require_answers, require_no_target, sounds_like_target
from themisto.serving.exporter import Export, Exporter
from themisto.serving.frame import Tensors, pick, tensors
from themisto.serving.models import Golden
from themisto.serving.parity import Parity, Tolerance, compare, golden_of
from themisto.serving.runner import run

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Candidate", "fit_sample", "require_sample"]


@dataclass(frozen=True)
class Candidate:
    """What the export and parity stages made."""

    export: Export
    inputs: Tensors
    expected: Tensors
    frame: pd.DataFrame

    @classmethod
    def exported(cls, exporter: Exporter, model: Any, sample: pd.DataFrame) -> Candidate:
        """Export `model` and take its own answers to `sample`. Raises Invalid, or Failed for a faulty exporter."""
        columns = exporter.columns(model)
        frame = fit_sample(sample, columns)
        try:
            expected = exporter.answers(model, frame)
        except ThemistoError:
            raise
        except Exception as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise Invalid(
                f"The model cannot answer the sample{odd_values(frame)}: {cause[:300]}",
                "Give a sample as the model was fitted: the same columns, types and preparation.",
            ) from error
        require_answers(exporter, expected, len(frame))
        if columns is not None:
            require_no_target(frame, expected)
        try:
            export = exporter.export(model, frame)
        except (ThemistoError, MemoryError):
            raise
        except Exception as error:
            cause = " ".join(str(error).split())[:300]
            raise Failed(
                f"The exporter {type(exporter).__name__} ends half-way: {type(error).__name__}: {cause}",
                "Nothing was deployed. Serve the model in its own library: --native (native=True).",
            ) from error
        return cls(export, tensors(frame, export.signature.inputs), expected, frame)

    @property
    def warning(self) -> str:
        """What should be looked at before callers rely on it; empty where nothing should."""
        name = sounds_like_target(self.frame)
        taken = {c.name for c in self.export.signature.inputs}
        return f"callers must send '{name}', which sounds like what is to be predicted" if name in taken else ""

    def prove(self, tolerance: Tolerance) -> tuple[Parity, Golden]:
        """Every row compared. Raises ParityError with the worst."""
        parity = compare(self.expected, run(self.export, self.inputs), self.frame, tolerance)
        return parity, golden_of(self.inputs, self.expected, parity, tolerance)


def require_sample(sample: Any) -> pd.DataFrame:
    """Raises Invalid for what is no DataFrame with rows and columns."""
    if not isinstance(sample, pd.DataFrame):
        kind = "nothing" if sample is None else f"a {type(sample).__name__}"
        raise Invalid(
            f"The sample is {kind}, not a DataFrame.", "Give the validation rows as a DataFrame: --sample X_valid."
        )
    if sample.empty:
        raise Invalid(
            "The sample has no rows.", "Give some hundred rows the model has not seen: they are what is compared."
        )
    return sample


def fit_sample(sample: pd.DataFrame, columns: Sequence[str] | None) -> pd.DataFrame:
    """The sample with exactly the model's columns, in its order; others are left out.

    Raises Invalid naming the columns that are missing and the nearest that are there.
    """
    require_sample(sample)
    if columns is None:
        return pick(sample, [str(c) for c in sample.columns], whose="the model")
    names = [str(c) for c in sample.columns]
    if not set(columns) <= set(names):
        # LightGBM writes `_` for blanks and JSON's signs in the names it was given.
        plain = [re.sub(r"\s", "_", name) for name in names]
        if set(columns) <= set(plain) and len(set(plain)) == len(plain):
            return pick(sample, [names[plain.index(c)] for c in columns], whose="the model")
    return pick(sample, list(columns), whose="the model")
