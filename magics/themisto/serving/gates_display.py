"""What gates show: how each was decided, its slices, what is pinned, and what is retrained by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from themisto.display import Card, Table
from themisto.serving.gates import GateResult, Quality, Retraining
from themisto.serving.models import Endpoint

__all__ = ["GatesCard", "gate_facts", "pinned_facts"]

_MARKS = {True: "✓", False: "✗", None: "·"}


def gate_facts(results: Sequence[GateResult]) -> dict[str, Any]:
    """A line for each gate of a rollout: its mark, and in words what it came to."""
    return {f"gate {_MARKS[r.passed]} {r.gate}{_source(r)}": r.says for r in results}


def _source(result: GateResult) -> str:
    return " (labels)" if result.source == "labels" else " (pinned)" if result.pinned else ""


def pinned_facts(quality: Quality | None) -> dict[str, Any]:
    """What every release must pass."""
    if quality is None:
        return {}
    by = f", by {', '.join(quality.by)}" if quality.by else ""
    rows = f"{quality.rows:,} rows {quality.holdout_sha256[:12]}…, label {quality.label}{by}"
    return {"every release must pass": "; ".join(quality.gates), "on the hold-out": rows}


class GatesCard:
    """An endpoint's gates whole: decisions, slices, the pinned ones, retraining."""

    def __init__(self, endpoint: Endpoint, retraining: Retraining | None) -> None:
        rollout = endpoint.rollout
        self.results = rollout.gates if rollout is not None else ()
        facts = gate_facts(self.results) | pinned_facts(endpoint.pinned)
        if retraining is not None:
            facts |= {
                "retrained by": f"{retraining.schedule}, on {' and '.join(retraining.on)}, "
                f"at most every {retraining.cooldown_s / 3600:g} h",
                "last": retraining.last_says or "not needed yet",
            }
        title = f"{endpoint.name}@{rollout.release}" if rollout is not None else endpoint.name
        self.card = Card(title, facts, "" if facts else "No gate was asked for: %%deploy … --gate … --holdout …")
        rows = [
            [r.gate, f"{s.column}={s.value}", s.rows, s.metric, s.note or ""] for r in self.results for s in r.slices
        ]
        self.slices = Table(["gate", "slice", "rows", "metric", ""], rows, empty="no slices")

    def __repr__(self) -> str:
        return f"{self.card!r}\n\n{self.slices!r}" if len(self.slices) else repr(self.card)

    def _repr_html_(self) -> str:
        return self.card._repr_html_() + (self.slices._repr_html_() if len(self.slices) else "")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
