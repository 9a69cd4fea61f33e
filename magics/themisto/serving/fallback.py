"""Fallback: what is declared for when a model cannot answer, checked against its signature."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.serving.exporter import Export
from themisto.serving.models import Column, Fallback, Signature

if TYPE_CHECKING:
    from themisto.serving.candidate import Candidate

__all__ = ["check_default", "fallback_of", "parse_default", "rule_export"]

_RANGES = {"INT32": 2**31, "INT64": 2**63}
_EXAMPLE = """Write the answer for one row, for example --default '{"prediction": 0.5}'."""


def parse_default(text: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An object of JSON, output name to value, as the line has it. Raises Invalid.

    >>> parse_default('{"prediction": 0.5}')
    {'prediction': 0.5}
    """
    if text is None or isinstance(text, Mapping):
        return None if text is None else dict(text)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Invalid(f"The default is no JSON: {error}.", _EXAMPLE) from None
    if not isinstance(value, dict) or not value:
        raise Invalid("The default is no JSON object of outputs.", _EXAMPLE)
    return value


def check_default(default: Mapping[str, Any], signature: Signature) -> None:
    """One value for each output, of its type and shape. Raises Invalid, naming the output."""
    outputs = {column.name: column for column in signature.outputs}
    wrong = sorted(set(default) ^ set(outputs))
    if wrong:
        raise Invalid(
            f"The default and the model's outputs differ in {', '.join(wrong[:5])}.",
            f"The model answers {', '.join(outputs)}: give each a value.",
        )
    for name, column in outputs.items():
        problem = _problem(default[name], list(column.shape), column)
        if problem:
            raise Invalid(f"The default of '{name}' {problem}.", f"It is {column.dtype} of shape {[1, *column.shape]}.")


def _problem(value: Any, shape: list[int], column: Column) -> str:
    """What is wrong with it in words, or ""; a scalar stands for the shape (1,) too."""
    if isinstance(value, list) and shape:
        if shape[0] not in (-1, len(value)):
            return f"has {len(value)} values"
        return next((p for v in value if (p := _problem(v, shape[1:], column))), "")
    if math.prod(shape) != 1:
        return "is no list"
    return "" if _fits(value, column.dtype) else f"is {json.dumps(value, default=str)[:40]}"


def _fits(value: Any, dtype: str) -> bool:
    if dtype == "BYTES":
        return isinstance(value, str)
    if dtype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if dtype in _RANGES:
        return isinstance(value, int) and -_RANGES[dtype] <= value < _RANGES[dtype]
    return math.isfinite(value)


def rule_export(rule: Any, candidate: Candidate) -> Export:
    """The rule as an artifact with the model's own signature, tried on the model's sample in a clean process.

    Raises Invalid for what is no function of a DataFrame, or answers other outputs than the model.
    """
    from themisto.serving.exporters.function import Function
    from themisto.serving.runner import run

    exporter, signature = Function(), candidate.export.signature
    if not exporter.accepts(rule):
        raise Invalid("The rule is no function.", "Give the name of a function of a DataFrame: --rule by_hand.")
    exporter.answers(rule, candidate.frame)
    own = exporter.export(rule, candidate.frame)
    names, wanted = {c.name for c in own.signature.outputs}, {c.name for c in signature.outputs}
    if names != wanted and len(wanted | names) > 2:
        raise Invalid(
            f"The rule answers {', '.join(sorted(names))}, the model {', '.join(sorted(wanted))}.",
            "Return a DataFrame with the model's outputs as columns.",
        )
    export = Export(kind="python", data=_with_signature(own.data, signature), signature=signature)
    try:
        run(export, candidate.inputs)
    except (ValueError, KeyError) as error:
        raise Invalid(f"The rule's answers are not the model's outputs: {error}.", "Return the same types.") from None
    return export


def fallback_of(default: Mapping[str, Any] | None, rule: Export | None, after_ms: int) -> Fallback | None:
    """What the release records; None where nothing was declared."""
    if default is None and rule is None:
        return None
    return Fallback(default=default, rule=rule.artifact if rule else None, after_ms=after_ms)


def _with_signature(data: bytes, signature: Signature) -> bytes:
    """The function's zip with another signature; the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            text = signature.model_dump_json() if entry.filename == "signature.json" else old.read(entry)
            new.writestr(zipfile.ZipInfo(entry.filename, entry.date_time), text)
    return buffer.getvalue()
