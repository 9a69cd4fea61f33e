"""How far a materialization is, shown while it runs."""

from __future__ import annotations

from typing import Any, Self

from themisto.display import Card
from themisto.features.records import Materialization

__all__ = ["Progress", "rate", "seconds"]


class Progress:
    """How a materialization goes on: one display that changes in place in a notebook, nothing in a terminal.

    Once it is over its end is shown, and this is gone; where it failed, it stays and shows how far it came.
    """

    def __init__(self) -> None:
        self._handle: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._handle is not None and kind is None:
            self._handle.update({"text/plain": ""}, raw=True)

    def tell(self, run: Materialization) -> None:
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        shell = get_ipython()
        if shell is None or not hasattr(shell, "kernel") or not run.rows_total:
            return
        facts = {"rows": f"{run.rows_written:,} of {run.rows_total:,}", "rows a second": rate(run)}
        card = Card(f"{run.view} goes online", facts)
        if self._handle is None:
            self._handle = display(card, display_id=True)
        else:
            self._handle.update(card)


def rate(run: Materialization) -> str:
    """Rows a second."""
    return f"{run.rows_written / max(seconds(run), 0.001):,.0f}"


def seconds(run: Materialization) -> float:
    """How long it has taken."""
    return (run.updated_at - run.created_at).total_seconds()
