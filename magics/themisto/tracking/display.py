"""How a run shows itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from themisto.display import Card
from themisto.tracking.models import DataDigest

__all__ = ["RunCard"]

_MOST = 12


class RunCard(Card):
    """One run: where it is, how it ended, what it measured, from which data."""

    def __init__(
        self,
        *,
        run_id: str,
        name: str,
        experiment: str,
        status: str,
        url: str | None = None,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, str] | None = None,
        data: Sequence[DataDigest] = (),
        models: Sequence[str] = (),
        value: Any = None,
        note: str = "",
    ) -> None:
        facts: dict[str, Any] = {"run": run_id, "status": status.lower()}
        facts |= _first(metrics or {})
        facts |= _first({f"{k} =": v for k, v in sorted((params or {}).items())})
        for frame in data:
            facts[f"data {frame.name}"] = f"{frame.rows} x {frame.columns}  sha256 {frame.sha256[:12]}"
        if models:
            facts["model"] = list(models)
        super().__init__(f"{experiment} · {name}", facts, note)
        self.run_id = run_id
        self.status = status
        self.url = url
        self.value = value

    def __repr__(self) -> str:
        lines = super().__repr__()
        return f"{lines}\n{self.url}" if self.url else lines

    def _repr_html_(self) -> str:
        link = ""
        if self.url and self.url.startswith(("http://", "https://")):
            link = f'<p><a href="{escape(self.url)}" target="_blank" rel="noopener">Open in MLflow</a></p>'
        return f"{super()._repr_html_()}{link}"


def _first(facts: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(list(facts.items())[:_MOST])
    if len(facts) > _MOST:
        shown["…"] = f"{len(facts) - _MOST} more in MLflow"
    return shown
