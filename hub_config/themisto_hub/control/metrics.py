"""Metrics of the control plane, by Prometheus's conventions: what only it can know.

Gauges are read from the database at each scrape, so that they are right after a restart and the same
from every process; counters and histograms are this process's own. Envoy and Triton speak for themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from themisto import __version__
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.db import Database
from themisto_hub.control.outbox.outbox import backlog
from themisto_hub.control.serving.tables import EndpointRow, RolloutRow

__all__ = ["Metrics"]

_STEPS = ("rollout.proved", "rollout.approve", "rollout.running", "rollout.step", "rollout.done",
          "rollout.breach", "rollout.failed", "rollout.refuse")  # fmt: skip
_BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)
_ROLLOUT_STATES = ("loading", "waiting_approval", "running", "done", "rolled_back", "refused", "failed")


class Metrics:
    """The registry behind `/metrics`, and what is counted as it happens."""

    def __init__(self, db: Database, clock: Callable[[], datetime], gateway: Path) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        Info("themisto_build", "The version that runs", registry=self._registry).info({"version": __version__})
        self.events_sent = Counter(
            "themisto_events_sent", "Events that a target accepted", ["kind"], registry=self._registry
        )
        self.events_failed = Counter(
            "themisto_events_failed", "Events that were given up", ["kind"], registry=self._registry
        )
        self._steps = Histogram(
            "themisto_rollout_step_seconds",
            "Time from one step of a rollout to the next, by the step that was reached",
            ["step"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._reconciled = Gauge(
            "themisto_reconciler_last_success_timestamp_seconds",
            "When a part of the reconciler last came to its end without an error",
            ["part"],
            registry=self._registry,
        )
        self._registry.register(_Stored(db, clock))
        self._registry.register(_PredictionLog(gateway))

    def reconciled(self, part: str) -> None:
        """A part of the reconciler has just done its work."""
        self._reconciled.labels(part).set(time.time())

    def hear(self, session: Session, row: AuditRow) -> None:
        """Measure a rollout's step from the chain: since the event before it on the same rollout, once committed."""
        if row.action not in _STEPS or row.outcome != "done" or not row.object.startswith("rollout/"):
            return
        query = select(AuditRow.at).where(
            AuditRow.object == row.object,
            AuditRow.number < row.number,
            AuditRow.outcome == "done",
            AuditRow.action.in_(("rollout.open", *_STEPS)),
        )
        before = session.scalars(query.order_by(AuditRow.number.desc()).limit(1)).first()
        if before is None:
            return
        step, seconds = row.action.partition(".")[2], (row.at - before).total_seconds()
        event.listen(session, "after_commit", lambda _: self._steps.labels(step).observe(seconds), once=True)

    def exposition(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)


class _Stored(Collector):
    """What the database says at the moment of a scrape."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        with self._db.read() as session:
            yield _endpoints(session)
            yield _rollouts(session)
            yield from self._approvals(session)
            state = backlog(session, self._clock())
        yield GaugeMetricFamily("themisto_events_waiting", "Events that no target has accepted yet", state.waiting)

    def _approvals(self, session: Session) -> Iterator[Metric]:
        waits = RolloutRow.state == "waiting_approval"
        count, oldest = session.execute(select(func.count(), func.min(RolloutRow.updated_at)).where(waits)).one()
        age_s = (self._clock() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("themisto_approvals_waiting", "Rollouts that wait for a person", count)
        yield GaugeMetricFamily(
            "themisto_approval_oldest_age_seconds", "How long the oldest of them has waited; 0 without one", age_s
        )


def _endpoints(session: Session) -> Metric:
    family = GaugeMetricFamily("themisto_endpoints", "Endpoints by tier and state", labels=["tier", "state"])
    counts = {(tier, state): 0 for tier in ("dev", "prod") for state in ("answering", "empty", "retired")}
    owned = select(EndpointRow.tier, EndpointRow.retired, EndpointRow.stable).where(EndpointRow.group_name != "")
    for tier, retired, stable in session.execute(owned):
        state = "retired" if retired else "answering" if stable is not None else "empty"
        counts[tier, state] += 1
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family


def _rollouts(session: Session) -> Metric:
    family = GaugeMetricFamily("themisto_rollouts", "Rollouts by state, ended ones included", labels=["state"])
    found = session.execute(select(RolloutRow.state, func.count()).group_by(RolloutRow.state))
    counts = dict.fromkeys(_ROLLOUT_STATES, 0) | dict(found.tuples().all())
    for state, count in counts.items():
        family.add_metric([state], count)
    return family


class _PredictionLog(Collector):
    """How far the log's writer is behind the gateway, and what never became a row."""

    def __init__(self, gateway: Path) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        from themisto_hub.gateway.predictions import losses
        from themisto_hub.gateway.tail import lag

        try:
            behind, lost = lag(self._gateway), losses(self._gateway / "predictions")
        except OSError:
            return  # another machine's gateway
        yield GaugeMetricFamily(
            "themisto_prediction_log_unread_bytes", "Raw lines that are not in Parquet yet", behind.unread_bytes
        )
        yield GaugeMetricFamily(
            "themisto_prediction_log_lag_seconds",
            "How long ago Parquet was last written, while lines wait",
            behind.seconds,
        )
        family = GaugeMetricFamily(
            "themisto_prediction_log_lost", "Lines of the prediction log that were lost, by how", labels=["how"]
        )
        for how in ("dropped_lines", "unreadable_lines", "failed_writes"):
            family.add_metric([how], getattr(lost, how))
        yield family
