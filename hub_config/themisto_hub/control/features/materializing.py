"""Materializing: the newest rows of a view's entities, from Parquet to the online store's owner process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from themisto.errors import NotFound, ThemistoError, Unavailable
from themisto.features.judging import quarantined_keys
from themisto.features.latest import fillable, latest
from themisto.features.models import FeatureView
from themisto.features.online import OnlineTable
from themisto.features.records import Materialization, Quarantine
from themisto.types import new_ulid
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.online import OnlineWriter
from themisto_hub.control.features.quarantining import Quarantining
from themisto_hub.control.features.rows import Rows
from themisto_hub.control.features.tables import DataRow, MaterializationRow, PushRow

__all__ = ["Materializing"]

_GIVE_UP = timedelta(seconds=60)  # a restart of the online store is waited for
_KEYS = 5000  # in one erasure
_FROM_SCRATCH: Mapping[str, object] = {"since": None, "until": None, "full": True, "sent": 0, "targets": []}
_log = logging.getLogger(__name__)


class Materializing:
    """Records what is asked for and does it, one run after the other; a run may be done any number of times."""

    def __init__(self, control: Control, rows: Rows, online: OnlineWriter, quarantining: Quarantining) -> None:
        self._control = control
        self._rows = rows
        self._online = online
        self._quarantining = quarantining

    def ask(
        self,
        caller: Caller,
        group: str,
        view: str,
        since: datetime | None,
        until: datetime | None,
        *,
        full: bool = False,
    ) -> Materialization:
        """Record a run for the worker. Raises NotFound for a view without rows."""
        sha256 = self._rows.use(group, view).stem
        with self._control.db.write() as session:
            now = self._control.clock()
            row = MaterializationRow(
                id=new_ulid(),
                group_name=group,
                view=view,
                since=since,
                until=until,
                sha256=sha256,
                full=full,
                entities=0,
                targets=[],
                sent=0,
                state="waiting",
                rows_written=0,
                rows_total=0,
                message="",
                tries=0,
                requested_by=caller.name,
                created_at=now,
                updated_at=now,
            )
            session.add(row)
            self._control.audit.append(
                session,
                actor=caller.name,
                action="feature_view.materialize",
                object=f"feature_view/{group}/{view}",
                group=group,
                after={
                    "run": row.id,
                    "sha256": sha256,
                    "since": _iso(since),
                    "until": _iso(until),
                    "full": full,
                },
                request_id=caller.request_id,
            )
            return lookup.materialization_model(row)

    def get(self, caller: Caller, run: str) -> Materialization:
        """Raises NotFound, also for a run of a group that is not the caller's."""
        with self._control.db.read() as session:
            row = session.get(MaterializationRow, run)
            if row is None or row.group_name not in caller.groups:
                raise NotFound(f"There is no materialization {run}.", "See %features freshness.")
            return lookup.materialization_model(row)

    def waiting(self) -> list[str]:
        """Runs to be done, oldest first; those that a dead control plane left running are among them."""
        with self._control.db.read() as session:
            query = select(MaterializationRow.id).where(MaterializationRow.state.in_(["waiting", "running"]))
            return list(session.scalars(query.order_by(MaterializationRow.id)))

    def do(self, run: str) -> Materialization:
        """Do one run, or go on with it where it was stopped; its outcome is stored, whatever it is."""
        job = self._change(run, state="running")
        try:
            with self._control.db.read() as session:
                versions = [lookup.view_model(row) for row in lookup.view_versions(session, job.group, job.view)]
                targets = fillable(versions, lookup.pinned(session, job.group, job.view))
                sha256 = session.get_one(MaterializationRow, run).sha256
            with self._rows.changing(job.group, job.view):
                data = self._quarantining.judged(job.group, job.view, sha256, actor=job.requested_by)
                path = self._rows.use(job.group, job.view, data.sha256)
            leaving = [q for q in data.quarantined if not q.cleared]
            if leaving:
                job = self._change(run, sha256=data.sha256, **_FROM_SCRATCH)
                self._clear(job, targets, leaving)
            elif data.sha256 != sha256:
                job = self._change(run, sha256=data.sha256, sent=0, targets=[])
            for view in targets:
                self._bring(job, view, path, data.written_at)
            if leaving:
                self._quarantining.cleared(job.group, job.view, data)
        except Unavailable as error:
            return self._try_later(run, error)
        except ThemistoError as error:
            return self._change(run, state="failed", message=str(error))
        except Exception:  # noqa: BLE001 - whatever it was, the next run must have its turn
            _log.exception("materialization %s", run)
            return self._change(run, state="failed", message="The worker met an error of its own; it is in its log.")
        return self._change(run, state="done", message="")

    def _clear(self, job: Materialization, targets: list[FeatureView], leaving: list[Quarantine]) -> None:
        """Take entities with quarantined rows off the online store; all that is right is brought after it."""
        for view in targets:
            table = OnlineTable.of(view, job.group)
            for quarantine in leaving:
                path = self._rows.quarantine(job.group, job.view, quarantine)
                for keys in quarantined_keys(view, path):
                    self._online.erase(table, keys)
        with self._control.db.write() as session:  # what is in no file that is brought comes back by itself
            of_view = (PushRow.group_name == job.group, PushRow.view == job.view)
            session.execute(update(PushRow).where(*of_view).values(online=False))

    def _bring(self, job: Materialization, view: FeatureView, path: Path, written_at: datetime) -> None:
        """One version of the view: what differs from what was online, from where the run was stopped."""
        with self._control.db.read() as session:
            row = session.get_one(MaterializationRow, job.id)
            done, sent = list(row.targets), row.sent
            before = self._base(session, job, view)
        if view.version in done:
            return
        base = self._rows.held(job.group, job.view, before) if before else None
        table = OnlineTable.of(view, job.group)
        first = before is None and not (job.full or job.since or job.until)
        with latest(
            view, path, written_at=written_at, since=job.since, until=job.until, base=base, first=first
        ) as found:
            self._change(
                job.id, rows_total=len(found), rows_written=sent, reached=found.reached, entities=found.entities
            )
            if not sent:
                self._online.write(table, [])
                gone = found.gone()
                for start in range(0, len(gone), _KEYS):
                    self._online.erase(table, gone[start : start + _KEYS])
            for batch, new in found.rows(skip=sent):
                sent += len(batch)
                self._online.write(table, batch, new=new and not self._is_pushed(job))
                self._change(job.id, rows_written=sent, sent=sent)
        self._change(job.id, targets=[*done, view.version], sent=0)

    def _is_pushed(self, job: Materialization) -> bool:
        """Whether entities may be online that no file has brought."""
        with self._control.db.read() as session:
            pushes = [
                select(PushRow.id).where(PushRow.group_name == job.group, PushRow.view == job.view),
                select(DataRow.id).where(
                    DataRow.group_name == job.group, DataRow.view == job.view, DataRow.layer == "pushed"
                ),
            ]
            return any(session.scalar(query.limit(1)) for query in pushes)

    def _base(self, session: Session, job: Materialization, view: FeatureView) -> str | None:
        """Digest of what this version of the view has online as a whole; None where all of it is to be written."""
        if job.full or job.since or job.until:
            return None
        query = select(MaterializationRow).where(
            MaterializationRow.group_name == job.group,
            MaterializationRow.view == job.view,
            MaterializationRow.state == "done",
            MaterializationRow.since.is_(None),
            MaterializationRow.until.is_(None),
        )
        for row in session.scalars(query.order_by(MaterializationRow.id.desc())):
            if view.version in row.targets:
                return row.sha256
        return None

    def _try_later(self, run: str, error: Unavailable) -> Materialization:
        with self._control.db.write() as session:
            row = session.get_one(MaterializationRow, run)
            row.tries += 1
            row.state = "failed" if self._control.clock() - row.created_at > _GIVE_UP else "waiting"
            row.message = str(error)
            row.updated_at = self._control.clock()
            return lookup.materialization_model(row)

    def _change(self, run: str, **values: object) -> Materialization:
        with self._control.db.write() as session:
            row = session.get_one(MaterializationRow, run)
            for name, value in values.items():
                setattr(row, name, value)
            row.updated_at = self._control.clock()
            found = lookup.materialization_model(row)
        self._control.events.publish("materialization", found.model_dump(mode="json"), found.group)
        return found


def _iso(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
