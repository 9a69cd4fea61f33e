"""How answers show themselves: rich in a notebook, plain in a terminal, always escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

__all__ = ["Card", "Table"]

_STYLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"


class Card:
    """A titled list of facts, with a note below. Every string is data and is escaped in HTML."""

    def __init__(self, title: str, facts: Mapping[str, Any], note: str = "") -> None:
        self.title = title
        self.facts = dict(facts)
        self.note = note

    def __repr__(self) -> str:
        width = max((len(k) for k in self.facts), default=0)
        lines = [self.title, *(f"  {k:<{width}}  {_text(v)}" for k, v in self.facts.items())]
        return "\n".join([*lines, self.note] if self.note else lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left;padding-right:1em">{escape(k)}</th>'
            f'<td style="text-align:left">{escape(_text(v))}</td></tr>'
            for k, v in self.facts.items()
        )
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return (
            f'<div class="themisto-card"><b>{escape(self.title)}</b><table style="{_STYLE}">{rows}</table>{note}</div>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


class Table:
    """Rows of facts under column names; iterates over its rows as dicts."""

    def __init__(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", empty: str = "none"
    ) -> None:
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]
        self.title = title
        self.empty = empty

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def __repr__(self) -> str:
        if not self.rows:
            return f"{self.title}: {self.empty}" if self.title else self.empty
        cells = [self.columns, *[[_text(v) for v in row] for row in self.rows]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = ["  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.title, *lines] if self.title else lines)

    def _repr_html_(self) -> str:
        title = f"<b>{escape(self.title)}</b>" if self.title else ""
        if not self.rows:
            return f'<div class="themisto-table">{title} {escape(self.empty)}</div>'
        head = "".join(f'<th style="text-align:left">{escape(c)}</th>' for c in self.columns)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(_text(v))}</td>' for v in row) + "</tr>"
            for row in self.rows
        )
        return f'<div class="themisto-table">{title}<table style="{_STYLE}"><tr>{head}</tr>{body}</table></div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


def _text(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_text(v) for v in value)
    return str(value)
