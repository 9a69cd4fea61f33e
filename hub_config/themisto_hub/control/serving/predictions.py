"""Predictions: the newest lines of an endpoint's prediction log, for the group that owns it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from themisto.serving.losses import LogLosses
from themisto.types import Json, Model, UtcTime
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.guard import recorded_refusals, require_owner
from themisto_hub.control.serving.labels import joined
from themisto_hub.control.serving.prediction_log import Only, PredictionLog, Rows
from themisto_hub.control.serving.records import endpoint_row
from themisto_hub.gateway.predictions import losses

__all__ = ["Prediction", "Predictions"]


class Prediction(Model):
    """One answer of the gateway. `status` is HTTP's, or the gRPC code (0 is OK).

    `release` answered, `chosen` is what the shares chose: where they differ, `fallback` says what stepped in.
    """

    time: UtcTime
    request_id: str | None
    caller: str | None
    endpoint: str
    release: str | None
    chosen: str | None = None
    fallback: str | None = None
    key: str | None
    entity: bool | None
    protocol: str
    path: str
    status: int | None
    latency_ms: float
    flags: str | None
    feature_age_s: float | None = None
    trace_id: str | None = None
    error: str | None = None
    inputs: Json = None
    outputs: Json = None


class Predictions:
    """Reads what the gateway's log writer keeps as Parquet."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def newest(
        self,
        caller: Caller,
        name: str,
        *,
        about: int | None = None,
        only: Only | None = None,
        after: str | None = None,
        bodies: bool = True,
        limit: int = 20,
    ) -> tuple[list[Prediction], str | None]:
        """What callers were answered, newest first, and where the next page begins (see `PredictionLog.page`).

        about: number of a release; what it answered, and what it was chosen for and did not answer.
        Each look is one audit event: predictions are about people.

        Raises NotFound, Refused, Invalid, Unavailable where the log cannot be read.
        """
        title = f"{name}@{about}" if about is not None else None
        since = self.allow(caller, name, {"limit": limit, "about": title, "only": only, "after": after})
        log = PredictionLog(self._control.settings.folder("gateway") / "predictions")
        table, place = log.page(name, since=since, after=after, about=title, only=only, limit=limit)
        return [_prediction(line, bodies=bodies) for line in table.drop_columns(["shadow"]).to_pylist()], place

    def page(
        self,
        caller: Caller,
        name: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        rows: Rows = "answers",
        bodies: bool = True,
        labels: bool = False,
        limit: int = 1000,
    ) -> tuple[bytes, str | None]:
        """One page as a Parquet file, newest first, and where the next one begins (see `PredictionLog.page`).

        Each page is one audit event, as each look is. Raises NotFound, Refused, Invalid, Unavailable.
        """
        import pyarrow.parquet as pq

        span = {"since": since.isoformat() if since else None, "until": until.isoformat() if until else None}
        claimed_at = self.allow(caller, name, {"limit": limit, "rows": rows, "after": after, **span})
        since = max(since, claimed_at) if since else claimed_at  # a former owner's are not hers to see
        log = PredictionLog(self._control.settings.folder("gateway") / "predictions")
        table, place = log.page(name, since=since, until=until, after=after, rows=rows, bodies=bodies, limit=limit)
        if labels:
            with self._control.db.read() as session:
                table = joined(session, name, table)
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd")
        return file.getvalue(), place

    def allow(self, caller: Caller, name: str, what: dict[str, object]) -> datetime:
        """Since when the name is her group's. Raises NotFound or Refused; a look is recorded before it is taken."""
        with (
            recorded_refusals(self._control, caller, "predictions.read", f"endpoint/{name}"),
            self._control.db.write() as session,
        ):
            endpoint = endpoint_row(session, name)
            claimed_at = endpoint.created_at
            caller.require("deploy")
            require_owner(caller, endpoint)
            self._control.audit.append(
                session,
                actor=caller.name,
                action="predictions.read",
                object=f"endpoint/{name}",
                group=endpoint.group_name,
                after=what,
                request_id=caller.request_id,
            )
        return claimed_at

    def losses(self) -> LogLosses:
        """Lines that never became rows, of all endpoints together."""
        return losses(self._control.settings.folder("gateway") / "predictions")


def _prediction(line: Mapping[str, Any], *, bodies: bool) -> Prediction:
    """A row of the log; the words of a refusal are told also without the bodies."""
    inputs, outputs = (json.loads(line[side]) if line[side] else None for side in ("inputs", "outputs"))
    error = outputs.get("error") if isinstance(outputs, dict) else None
    sides = {"inputs": inputs, "outputs": outputs} if bodies else {"inputs": None, "outputs": None}
    return Prediction.model_validate({**line, **sides, "error": error if isinstance(error, str) else None})
