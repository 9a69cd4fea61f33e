"""Findings: what a check of features found wrong, in a sentence, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from themisto.errors import Failed, Invalid
from themisto.types import Json, Model

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "Findings", "Severity"]

Severity = Literal["error", "warning", "note"]
"""error: training or serving on it is wrong. warning: look at it first. note: good to know."""

_RANK: Mapping[str, int] = {"error": 0, "warning": 1, "note": 2}


class Finding(Model):
    """One thing that is wrong.

    check: which check found it: leakage, target, split, likeness, skew or freshness.
    subject: the view, or `view:feature`, or the column.
    detail: what is wrong; remedy: what to do. One sentence each.
    figures: the numbers behind it, and examples.
    """

    check: str
    subject: str
    severity: Severity
    detail: str
    remedy: str
    figures: Mapping[str, Json] = {}


class Findings(list[Finding]):
    """What was found, worst first.

    skipped: checks that were not made, and what they need.
    """

    def __init__(self, found: Iterable[Finding] = (), *, skipped: Mapping[str, str] | None = None) -> None:
        super().__init__(sorted(found, key=lambda f: (_RANK[f.severity], f.check, f.subject)))
        self.skipped = dict(skipped or {})

    def frame(self) -> pd.DataFrame:
        """A row a finding: check, subject, severity, detail, remedy, figures."""
        import pandas as pd

        return pd.DataFrame([f.model_dump() for f in self], columns=list(Finding.model_fields))

    def _repr_html_(self) -> str:
        return str(self.frame().to_html())

    def of(self, check: str) -> list[Finding]:
        """Those of one check."""
        return [f for f in self if f.check == check]

    def raise_on(self, severity: str) -> None:
        """Raises Failed where something is as bad as `severity` or worse, with the first three of these."""
        if severity not in _RANK:
            raise Invalid(f"'{severity}' is no severity.", f"Write one of {', '.join(_RANK)}.")
        bad: list[Any] = [f for f in self if _RANK[f.severity] <= _RANK[severity]]
        if bad:
            told = " ".join(f.detail for f in bad[:3])
            more = f" And {len(bad) - 3} more." if len(bad) > 3 else ""
            raise Failed(f"The features do not pass: {told}{more}", bad[0].remedy)
