"""The run of the moment, with a memory: what the tracking server misses goes to the run's box, in order.

The first call that the server does not answer opens the box, and from then on all of the run goes
there at once, so that the body runs on at full speed. Without a run, MLflow behaves as ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from themisto.tracking.connection import is_outage
from themisto.tracking.outbox import Box
from themisto.tracking.registry import upload_model

__all__ = ["KEPT", "Journal", "active", "send"]

KEPT = frozenset(
    {"LogBatch", "LogMetric", "LogParam", "SetTag", "DeleteTag", "LogInputs", "LogOutputs", "UpdateRun", "LogModel"}
)
"""MLflow's calls that only add to a run; they may be made later, and again, with the same result."""

_T = TypeVar("_T")
_active: Journal | None = None


def active(run_id: str | None) -> Journal | None:
    """The journal of the run that goes on in this kernel, if it is that one."""
    return _active if _active is not None and _active.run.info.run_id == run_id else None


class Journal:
    """A run that goes on: its box, and whether the server has gone away. `with` makes it the active one."""

    def __init__(self, box: Box, run: Any) -> None:
        self.box = box
        self.run = run  # MLflow's Run as it began, for who asks while the server is away
        self.away = False
        self.metrics: dict[str, float] = {}
        self.params: dict[str, str] = {}

    def __enter__(self) -> Journal:
        global _active
        _active = self
        return self

    def __exit__(self, *_: object) -> None:
        global _active
        _active = None

    def attempt(self, call: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
        """`call()`, or `otherwise()` when the server is away or goes away now."""
        if not self.away:
            try:
                return call()
            except Exception as error:
                if not is_outage(error):
                    raise
                self.away = True
        return otherwise()

    def note(self, api: str, body: dict[str, Any]) -> None:
        """Remember what was logged, to show it and to hand it on without asking the server."""
        for metric in [body] if api == "LogMetric" else body.get("metrics", []):
            self.metrics[metric["key"]] = float(metric["value"])
        for param in [body] if api == "LogParam" else body.get("params", []):
            self.params[param["key"]] = str(param.get("value", ""))


def send(client: Any, box: Box) -> int:
    """Send all that a box holds, in order; returns how many calls the server refused for good.

    Each call may have got through before (only its answer was lost): MLflow takes the same metric,
    parameter, tag and file again without a trace, and a model carries the box's mark, by which it is
    found. Raises what `is_outage` knows when the server goes away again; the box then stays.
    """
    refused = 0
    for call in [*box.calls(), {"api": "close"}]:
        try:
            _send_one(client, box, call)
        except Exception as error:
            if is_outage(error):
                raise
            refused += 1
    return refused


def _send_one(client: Any, box: Box, call: dict[str, Any]) -> None:
    from mlflow.protos import service_pb2

    kind, label = call["api"], box.label
    if kind == "artifact":
        client.log_artifact(label.run_id, str(box.folder / call["file"]), call["path"])
    elif kind == "model":
        upload_model(
            client,
            box.folder / call["file"],
            experiment_id=label.experiment_id,
            run_id=label.run_id,
            name=call["name"],
            params=call["params"],
            mark=call["mark"],
        )
    elif kind == "close":  # a run that nobody closed: its kernel is gone
        if client.get_run(label.run_id).info.status == "RUNNING":
            client.set_terminated(label.run_id, "KILLED")
    elif kind in KEPT:
        client._tracking_client.store._call_endpoint(getattr(service_pb2, kind), json.dumps(call["body"]))
