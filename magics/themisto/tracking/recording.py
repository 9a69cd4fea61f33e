"""A run while it goes on: opened before the body, fed by autologging, closed with what the body made."""

from __future__ import annotations

import hashlib
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Conflict, Failed, Invalid, ThemistoError
from themisto.tracking import autolog, registry
from themisto.tracking.connection import mlflow_errors
from themisto.tracking.digest import combined, digest
from themisto.tracking.display import RunCard
from themisto.tracking.models import DataDigest, Lineage
from themisto.tracking.outbox import BoxLabel, Outbox
from themisto.tracking.provenance import as_tags, provenance
from themisto.tracking.results import made_by, metrics_in, signature_sample

if TYPE_CHECKING:
    from themisto.tracking.connection import Connection
    from themisto.tracking.journal import Journal
    from themisto.tracking.lineage import LineageMap

__all__ = ["Recording"]

_Namespace = Callable[[], Mapping[str, Any]]


class Recording:
    """One run. `with` opens and closes it; `result` takes the body's value.

    The body's exceptions are never swallowed: the run is closed as FAILED (KILLED for Ctrl-C), with
    the traceback kept, and they travel on.

    namespace: gives the variables among which models that the body made are found.
    """

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        lineages: LineageMap,
        *,
        experiment: str,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
        source: str = "",
        log_automatically: bool = True,
        namespace: _Namespace = dict,
        note: str = "",
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._lineages = lineages
        self.experiment = experiment
        self._name = name
        self._tags = dict(tags or {})
        self._source = source
        self._libraries = autolog.libraries_in(source) if log_automatically else []
        self._namespace = namespace
        self._note = note
        self.data = {key: digest(key, frame) for key, frame in (data or {}).items()}
        self._frames = dict(data or {})
        self._stack = ExitStack()
        self._journal: Journal | None = None
        self._value: Any = None
        self._models: list[str] = []
        self.card: RunCard | None = None

    def __enter__(self) -> Recording:
        import mlflow

        if mlflow.active_run() is not None:
            raise Conflict("A run is open in this kernel already.", "Close it first: mlflow.end_run().")
        client = self._connection.client
        self._before = {name: id(value) for name, value in self._namespace().items()}
        with mlflow_errors():
            self._experiment_id = self._connection.experiment_id(self.experiment)
            self._run = mlflow.start_run(
                experiment_id=self._experiment_id,
                run_name=self._name,
                tags=self._first_tags(),
                log_system_metrics=False,
            )
        self._client = client
        if self._connection.remote:
            self._keep_what_gets_lost()
        with self._closing():
            self._log_source()
            for frame in self.data.values():
                self._log_data(frame)
            self._stack.enter_context(autolog.autologging(self._libraries))
        return self

    def _keep_what_gets_lost(self) -> None:
        from themisto.tracking.journal import Journal

        label = BoxLabel(key=self._connection.key, run_id=self.run_id, experiment_id=self._experiment_id)
        self._journal = self._stack.enter_context(Journal(self._outbox.begin(label), self._run))

    @property
    def run_id(self) -> str:
        found: str = self._run.info.run_id
        return found

    @property
    def url(self) -> str | None:
        return self._connection.run_url(self._experiment_id, self.run_id)

    def result(self, value: Any) -> None:
        """Take the body's value: a model is logged, a dict of numbers becomes metrics; so are a tuple's parts."""
        self._value = value

    def add_data(self, name: str, frame: Any) -> None:
        """Digest a frame that the body made."""
        self.data[name] = digest(name, frame)
        self._frames[name] = frame
        self._log_data(self.data[name])

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with self._stack:
            status = _status(error)
            with self._closing(quiet=error is not None):
                if error is None:
                    self._log_results()
                else:
                    self._log_error(error)
            self._end(status)
            self.card = self._card(status)

    @contextmanager
    def _closing(self, *, quiet: bool = False) -> Iterator[None]:
        """If this fails, the run must not stay open."""
        try:
            with mlflow_errors():
                yield
        except BaseException as error:
            if quiet:
                return
            self._end(_status(error))
            self._stack.close()
            raise

    def _end(self, status: str) -> None:
        import mlflow

        with mlflow_errors():
            mlflow.end_run(status)
        if self._journal is not None:
            box = self._journal.box
            if box.empty:
                box.discard()
            else:
                box.release()

    def _first_tags(self) -> dict[str, str]:
        self._provenance = provenance()
        cell = hashlib.sha256(self._source.encode()).hexdigest() if self._source else None
        return {**self._tags, **as_tags(self._provenance), **({"themisto.cell_sha256": cell} if cell else {})}

    def _log_source(self) -> None:
        if self._source:
            self._client.log_text(self.run_id, self._source, "cell.py")

    def _log_data(self, frame: DataDigest) -> None:
        """The whole digest as tags; also as the run's dataset, where MLflow shows it (cut to its 36 characters)."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, RunTag

        tags = {"sha256": frame.sha256, "rows": frame.rows, "columns": frame.columns}
        batch = [RunTag(f"themisto.data.{frame.name}.{key}", str(value)) for key, value in tags.items()]
        self._client.log_batch(self.run_id, tags=batch)
        dataset = Dataset(frame.name, frame.sha256[:36], "themisto", frame.sha256, schema=None, profile=None)
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _log_error(self, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        self._client.set_tag(self.run_id, "themisto.error", f"{type(error).__name__}: {error}"[:5000])
        self._client.log_text(self.run_id, text, "traceback.txt")

    def _log_results(self) -> None:
        self._log_metrics(dict(metrics_in(self._value)))
        made = made_by(self._value, self._before, self._namespace(), self._source)
        for name, model in made.logged.items():
            self._log_model(name, model)
        lineage = self.lineage()
        for model in made.all.values():
            self._lineages.remember(model, lineage)

    def _log_metrics(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if not values:
            return
        now = int(time.time() * 1000)
        try:
            with mlflow_errors():
                self._client.log_batch(self.run_id, [Metric(key, value, now, 0) for key, value in values.items()])
        except Invalid as error:  # a name that MLflow does not take; the rest is worth keeping
            self._add_note(str(error))

    def _add_note(self, note: str) -> None:
        self._note = f"{self._note} {note}".strip()

    def _log_model(self, name: str, model: Any) -> None:
        sample, outputs = signature_sample(model, self._frames.values())
        with tempfile.TemporaryDirectory(prefix="themisto-") as scratch:
            folder = Path(scratch) / "model"
            try:
                registry.save_model(model, folder, signature_df=sample, outputs=outputs)
            except (Failed, Invalid) as error:  # her result stands; only its copy is missing
                self._add_note(str(error))
                return
            self._upload(name, folder)
        self._models.append(name)

    def _upload(self, name: str, folder: Path) -> None:
        params, journal = self._facts()[1], self._journal
        send = partial(
            registry.upload_model,
            self._client,
            folder,
            experiment_id=self._experiment_id,
            run_id=self.run_id,
            name=name,
            params=params,
        )
        if journal is None:
            send()
            return
        mark = f"{self.run_id}-{len(self._models)}"
        call = {"api": "model", "name": name, "params": params, "mark": mark}
        journal.attempt(partial(send, mark=mark), lambda: journal.box.keep_folder(folder, call))

    def _facts(self) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics and parameters so far: the store's, or, while it is away, what was sent and kept."""
        journal = self._journal
        if journal is not None:
            return dict(journal.metrics), dict(journal.params)
        data = self._client.get_run(self.run_id).data
        return dict(data.metrics), dict(data.params)

    def lineage(self) -> Lineage:
        """What a release will say about where its model came from."""
        metrics, params = self._facts()
        sha256, rows = combined(self.data)
        return Lineage(
            run_id=self.run_id,
            experiment=self.experiment,
            git_commit=self._provenance.git_commit,
            git_dirty=self._provenance.git_dirty,
            lock_sha256=self._provenance.lock_sha256,
            data_sha256=sha256,
            data_rows=rows,
            metrics=metrics,
            parameters=params,
        )

    def _card(self, status: str) -> RunCard:
        if self._journal is not None and self._journal.away:
            self._add_note(
                "The tracking server went away: all is kept here, and sent by the next %%track or %track sync."
            )
        try:
            metrics, params = self._facts()
        except ThemistoError:
            metrics, params = {}, {}
        return RunCard(
            run_id=self.run_id,
            name=self._run.info.run_name,
            experiment=self.experiment,
            status=status,
            url=self.url,
            metrics=metrics,
            params=params,
            data=list(self.data.values()),
            models=self._models,
            value=self._value,
            note=self._note,
        )


def _status(error: BaseException | None) -> str:
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
