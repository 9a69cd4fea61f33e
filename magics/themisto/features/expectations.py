"""Expectations: what the rows of a view must be like, declared on the view, kept wherever rows come in."""

from __future__ import annotations

import hashlib
import json
import math
import operator
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from themisto.errors import Invalid
from themisto.features.dtypes import Dtype, fits, from_json
from themisto.features.nouns import Noun
from themisto.types import Identifier

__all__ = ["Expect", "check_columns", "rules_of"]

_Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
_ORDERED = ("int32", "int64", "float32", "float64", "decimal", "timestamp")
_SHOWN = 60


class Expect(Noun):
    """What a column must be like: a range, a set of values, a pattern, values that stand once, a share of nulls.

    column: a feature or a key of the view.
    between: the least and the greatest value, both allowed; None: no bound. Times in ISO 8601.
    among: the values there may be.
    matches: a regular expression (RE2) for the whole text.
    unique: no value stands in two rows; of several the earliest by event time counts.
    nulls: the share of rows that may be empty: `"<= 5%"` or 0.05.

    A row against one of the first four goes to the view's quarantine; an empty value is against none of them. Over
    the share of nulls the rows are refused as a whole.

    >>> Expect("temp", between=(-60, 60), nulls="<= 5%").says
    ('between -60 and 60', 'at most 5 % empty')
    """

    column: Identifier
    between: tuple[_Scalar | None, _Scalar | None] | None = None
    among: Annotated[tuple[_Scalar, ...], Field(max_length=1000)] | None = None
    matches: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    unique: bool = False
    nulls: Annotated[float, Field(ge=0, le=1)] | None = None

    def __init__(
        self,
        column: str,
        *,
        between: Sequence[Any] | None = None,
        among: Sequence[Any] | None = None,
        matches: str | None = None,
        unique: bool = False,
        nulls: str | float | None = None,
    ) -> None:
        super().__init__(
            column=column,
            between=None if between is None else tuple(_plain(b) for b in between),
            among=None if among is None else tuple(_plain(a) for a in among),
            matches=matches,
            unique=unique,
            nulls=_share(nulls),
        )

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # JSON is read by the fields, not by this

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.says:
            raise Invalid(
                f"Expect('{self.column}') expects nothing.", "Say between=, among=, matches=, unique= or nulls=."
            )
        if self.between == (None, None):
            raise Invalid(f"Expect('{self.column}'): between= has no bound.", "Write between=(least, greatest).")
        if any(isinstance(b, float) and not math.isfinite(b) for b in (*(self.between or ()), *(self.among or ()))):
            raise Invalid(f"Expect('{self.column}'): a bound is no number.", "Leave a bound open with None.")
        if self.matches is not None:
            _compiles(self.column, self.matches)
        return self

    @property
    def says(self) -> tuple[str, ...]:
        """What is expected, in words, one each; the reason of a quarantined row is made of them."""
        said = []
        if self.between is not None:
            said.append(_range(*self.between))
        if self.among is not None:
            said.append(_cut(f"one of {', '.join(map(str, self.among))}"))
        if self.matches is not None:
            said.append(_cut(f"like {self.matches}"))
        if self.unique:
            said.append("unique")
        if self.nulls is not None:
            said.append(f"at most {100 * self.nulls:g} % empty")
        return tuple(said)

    def bounds(self, dtype: Dtype) -> tuple[Any, Any]:
        """The bounds of `between` as Python has values of the dtype; None: open."""
        low, high = self.between or (None, None)
        return from_json(dtype, low), from_json(dtype, high)


def check_columns(view: str, expects: Sequence[Expect], dtypes: Mapping[str, Dtype]) -> None:
    """Raises Invalid for an expectation of a column that the view lacks, or that does not fit the column's type."""
    for expect in expects:
        if expect.column not in dtypes:
            raise Invalid(
                f"FeatureView {view}: it expects something of '{expect.column}', which it does not have.",
                f"It has {', '.join(list(dtypes)[:20])}.",
            )
        dtype = dtypes[expect.column]
        wrong = _misfit(expect, dtype)
        if wrong:
            raise Invalid(
                f"FeatureView {view}: '{expect.column}' is {dtype}, and {wrong}.", "See help(themisto.Expect)."
            )


def rules_of(expects: Sequence[Expect]) -> str:
    """SHA-256 of the expectations, empty for none: rows judged by the same rules need not be judged again."""
    if not expects:
        return ""
    content = [e.model_dump(mode="json", exclude_defaults=True) for e in expects]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _misfit(expect: Expect, dtype: Dtype) -> str:
    if dtype.startswith("list") and (expect.among or expect.matches or expect.between or expect.unique):
        return "of lists only the share of nulls can be expected"
    if expect.matches is not None and dtype != "string":
        return "a pattern is for text"
    bounds = [b for b in expect.between or () if b is not None]
    if bounds and (dtype not in _ORDERED or not all(_number_fits(dtype, b) for b in bounds)):
        return f"between={bounds} does not fit that"
    if len(bounds) == 2 and operator.gt(*expect.bounds(dtype)):
        return f"nothing is between {bounds[0]} and {bounds[1]}"
    odd = [a for a in expect.among or () if not _number_fits(dtype, a)]
    return f"among={odd[:3]} does not fit that" if odd else ""


def _number_fits(dtype: Dtype, value: Any) -> bool:
    """A bound of whole numbers may have a fraction; everything else is of the type itself."""
    if dtype.startswith("int"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if dtype == "timestamp":
        return isinstance(value, str) and fits(dtype, value)
    return fits(dtype, value)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    item = value.item() if hasattr(value, "item") else value
    if isinstance(item, datetime):
        return item.isoformat()
    return str(item) if type(item).__name__ == "Decimal" else item


def _share(given: str | float | None) -> float | None:
    if not isinstance(given, str):
        return given
    found = re.fullmatch(r"(?:<=)?\s*(\d+(?:\.\d+)?)\s*(%?)", given.strip())
    if found is None:
        raise Invalid(f"'{given[:_SHOWN]}' is no share of nulls.", "Write nulls='<= 5%' or nulls=0.05.")
    return float(found[1]) / (100 if found[2] else 1)


def _compiles(column: str, pattern: str) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0][:200]
        raise Invalid(f"Expect('{column}'): the pattern cannot be read: {reason}", "Write it as RE2 has it.") from None


def _range(low: Any, high: Any) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
