"""Comparisons: two releases side by side in the prediction log, computed here for those who have no notebook open.

The computations are the kernel's own (`themisto.serving.shadow`, `themisto.serving.experiment`), on the
newest part of the same log. At most two run at a time: this process has other work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pandas as pd

from themisto.errors import NotFound, Unavailable
from themisto.serving.experiment import Effect, of_log, span
from themisto.serving.models import Endpoint, Signature
from themisto.serving.predictions import rows
from themisto.serving.shadow import Agreement, compared
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.logged_metrics import is_output, logged, require_metric
from themisto_hub.control.serving.prediction_log import PredictionLog
from themisto_hub.control.serving.predictions import Predictions
from themisto_hub.control.serving.records import endpoint_model, endpoint_row, release_model, release_row

__all__ = ["MAX_COMPARED", "MAX_EXPOSURES", "Comparisons"]

MAX_COMPARED = 2_000
"""Answers, a shadow's and the callers', in one comparison."""

MAX_EXPOSURES = 50_000
"""Requests behind one effect."""

_AT_A_TIME = 2
_PATIENCE_S = 10.0
_DIGITS = 9


class Comparisons:
    """Reads what both releases answered, for the group that owns the endpoint."""

    def __init__(self, control: Control, predictions: Predictions) -> None:
        self._control = control
        self._predictions = predictions
        self._turns = threading.BoundedSemaphore(_AT_A_TIME)

    def shadow(self, caller: Caller, name: str) -> Agreement:
        """Callers' answers beside the shadow's; see `themisto.serving.shadow.compare`. One audit event.

        Raises NotFound, also where nothing can be compared yet; Refused, Unavailable.
        """
        since = self._predictions.allow(caller, name, {"compare": "shadow", "limit": MAX_COMPARED})
        stable = self._endpoint(name).stable
        with self._turn():
            table, _ = self._log.page(name, since=since, rows="pairs", limit=MAX_COMPARED)
            signature_of = self._signatures(name)
            signature = signature_of(f"{name}@{stable}")
            outputs = tuple(column.name for column in signature.outputs) if signature else ()
            return compared(rows(table, signature_of), outputs).agreement

    def ab(self, caller: Caller, name: str, metric: str) -> Effect:
        """The latest rollout's effect on what the log itself holds; see `logged_metrics`. One audit event.

        Raises NotFound, also where an arm has too few values; Conflict where nothing was split; Invalid for
        an unknown metric; Refused, Unavailable.
        """
        claimed_at = self._predictions.allow(caller, name, {"compare": "ab", "metric": metric, "limit": MAX_EXPOSURES})
        endpoint = self._endpoint(name)
        began, ended = span(endpoint)
        signature_of = self._signatures(name)
        candidate = signature_of(f"{name}@{endpoint.rollout.release}") if endpoint.rollout else None
        require_metric(metric, candidate or Signature(inputs=(), outputs=()))
        which = {"since": max(began, claimed_at), "until": ended, "bodies": is_output(metric)}
        with self._turn():
            pages = self._log.pages(name, limit=MAX_EXPOSURES, **which)
            parts = [logged(page, metric, signature_of) for page in pages]
            log = pd.concat(parts or [logged(self._log.nothing(), metric, signature_of)], ignore_index=True)
            values = log.loc[log[metric].notna(), ["request_id", metric]].drop_duplicates("request_id")
            try:
                found = of_log(log.drop(columns=metric), endpoint, values, on="request_id", value=metric)
            except NotFound as error:
                raise NotFound(error.detail, "Let callers ask first, with a share for each, and look again.") from error
        if len(log) < MAX_EXPOSURES:
            return found
        note = f"Of the newest {MAX_EXPOSURES:,} requests; %deploy ab in a notebook takes all of them."
        return found.model_copy(update={"notes": (*found.notes, note)})

    @property
    def _log(self) -> PredictionLog:
        return PredictionLog(self._control.settings.folder("gateway") / "predictions")

    def _endpoint(self, name: str) -> Endpoint:
        with self._control.db.read() as session:
            return endpoint_model(session, self._control.settings, endpoint_row(session, name))

    def _signatures(self, name: str) -> Callable[[str], Signature | None]:
        """`credit@7` to its signature; None for what is no release of the endpoint."""

        @cache
        def signature_of(title: str) -> Signature | None:
            endpoint, _, number = title.rpartition("@")
            if endpoint != name or not number.isdecimal() or len(number) > _DIGITS:
                return None
            try:
                with self._control.db.read() as session:
                    return release_model(release_row(session, name, int(number))).signature
            except NotFound:
                return None

        return signature_of

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_PATIENCE_S):
            raise Unavailable("Others compare releases at the moment.", "Try again in a moment.")
        try:
            yield
        finally:
            self._turns.release()
