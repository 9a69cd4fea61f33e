"""Tracking: record runs, list and compare them, register what they made."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from themisto.display import Table
from themisto.errors import NotFound, Unavailable
from themisto.tracking.connection import Connection, mlflow_errors
from themisto.tracking.lineage import LineageMap
from themisto.tracking.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from themisto.client import ControlPlane
    from themisto.settings import Settings
    from themisto.tracking.models import Lineage
    from themisto.tracking.recording import Recording

__all__ = ["Tracking"]

_SHOWN_METRICS = 6
_NEWEST = "attributes.start_time DESC"


class Tracking:
    """Runs and models of one person, at the workbench's MLflow or in local files.

    Nothing is imported or connected to before the first method that needs it.
    """

    def __init__(self, settings: Settings, control: ControlPlane | None) -> None:
        self._settings = settings
        self._control = control
        self._lineages = LineageMap()

    @cached_property
    def connection(self) -> Connection:
        return Connection(self._settings, self._control)

    @cached_property
    def outbox(self) -> Outbox:
        """What the tracking server has missed so far."""
        return Outbox(self._settings.home / "outbox")

    def track(
        self,
        experiment: str,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | Sequence[Any] | None = None,
        source: str = "",
        autolog: bool = True,
        namespace: Callable[[], Mapping[str, Any]] = dict,
    ) -> Recording:
        """A run to be opened by `with`; what the body logs, fits and returns goes there.

        data: frames that the run learns from, by name; each is digested whole.
        source: the body's text, kept with the run.
        autolog: log the parameters and metrics of scikit-learn, LightGBM and XGBoost by themselves.
        namespace: gives the variables among which models made by the body are found.

        Raises Unavailable, before anything is run, when the tracking server does not answer.
        """
        from themisto.tracking.recording import Recording

        self.connection.check()
        self.connection.refresh()
        sent = self.sync(quiet=True)
        return Recording(
            self.connection,
            self.outbox,
            self._lineages,
            experiment=experiment,
            name=name,
            tags=tags,
            data=_named(data),
            source=source,
            log_automatically=autolog,
            namespace=namespace,
            note=f"Sent what the tracking server had missed of {sent} earlier run(s)." if sent else "",
        )

    def sync(self, *, quiet: bool = False) -> int:
        """Send what the tracking server missed of earlier runs; returns of how many.

        A run whose kernel died while the server was away is closed as KILLED. What the server refuses
        for good (the run was deleted meanwhile) is set aside next to the outbox, never thrown away.
        Raises Unavailable when the server goes away meanwhile; with `quiet`, the rest waits for the
        next time.
        """
        if not self.connection.remote or not self.outbox.root.is_dir():
            return 0
        from themisto.tracking.journal import send

        done = 0
        for box in self.outbox.waiting(self.connection.key):
            try:
                with mlflow_errors():
                    refused = send(self.connection.client, box)
            except Unavailable:
                if not quiet:
                    raise
                return done
            finally:
                box.release()
            if refused:
                box.set_aside()
            else:
                box.discard()
                done += 1
        return done

    def runs(self, experiment: str, *, order_by: str | None = None, limit: int = 20) -> Table:
        """The runs of an experiment, newest first or as `order_by` says ('metrics.auc DESC')."""
        client = self.connection.client
        with mlflow_errors():
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise NotFound(f"There is no experiment '{experiment}'.", _known(self.connection.experiment_names()))
            rows = client.search_runs([found.experiment_id], order_by=[order_by or _NEWEST], max_results=limit)
        found_metrics = dict.fromkeys(key for run in rows for key in run.data.metrics)
        metrics = sorted(found_metrics, key=lambda key: key.startswith("training_"))[:_SHOWN_METRICS]
        return Table(
            ["run", "name", "status", "by", *metrics],
            [
                [
                    run.info.run_id,
                    run.info.run_name,
                    run.info.status.lower(),
                    run.data.tags.get("mlflow.user", ""),
                    *(run.data.metrics.get(key) for key in metrics),
                ]
                for run in rows
            ],
            title=experiment,
            empty="no runs yet",
        )

    def compare(self, first: str, second: str) -> Table:
        """Two runs side by side: metrics, parameters, data, code and environment; what differs is marked."""
        client = self.connection.client
        with mlflow_errors():
            left, right = (_facts_of(client.get_run(run_id)) for run_id in (first, second))
        rows = []
        for key in sorted({*left, *right}, key=lambda key: (_ORDER.index(key.partition(" ")[0]), key)):
            a, b = left.get(key), right.get(key)
            rows.append(["" if a == b else "*", key, a, b])
        return Table(["", "what", first[:8], second[:8]], rows, title="* differs")

    def register(self, run_id: str, name: str, *, alias: str | None = None) -> str:
        """Make the model that a run logged the next version of `name`: `models:/<name>/<version>`."""
        from themisto.tracking import registry

        return registry.register_run(self.connection, run_id, name, alias)

    def log_version(
        self,
        name: str,
        model: Any,
        *,
        signature_df: Any = None,
        outputs: Any = None,
        pip_requirements: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        lineage: Lineage | None = None,
        alias: str | None = "candidate",
    ) -> str:
        """Make `model` the next version of the registered model `name`; see `registry.log_version`."""
        from themisto.tracking import registry

        self.connection.refresh()
        return registry.log_version(
            self.connection,
            name,
            model,
            signature_df=signature_df,
            outputs=outputs,
            pip_requirements=pip_requirements,
            tags=tags,
            lineage=lineage,
            alias=alias,
        )

    def set_alias(self, uri: str, alias: str) -> None:
        """Let `alias` point to `models:/<name>/<version>`."""
        from themisto.tracking import registry

        registry.set_alias(self.connection, uri, alias)

    def lineage(self, model: Any) -> Lineage | None:
        """The run that `model` came from, as long as it is the very object, unchanged, that the run made."""
        return self._lineages.of(model)


def _named(data: Mapping[str, Any] | Sequence[Any] | None) -> dict[str, Any]:
    """Frames by name; a list's frames are named as the caller's variables are, else by their place."""
    if data is None:
        return {}
    if isinstance(data, Mapping):
        return dict(data)
    names = {id(value): name for name, value in _callers_variables().items() if not name.startswith("_")}
    return {names.get(id(frame), f"data{number}"): frame for number, frame in enumerate(data)}


def _callers_variables() -> dict[str, Any]:
    """Variables of the first frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("themisto."):
        frame = frame.f_back
    return {**frame.f_globals, **frame.f_locals}


def _known(names: Sequence[str]) -> str:
    return f"There are: {', '.join(names)}." if names else "Make it with %%track -e NAME."


_PROVENANCE = {
    "mlflow.user": "run by",
    "mlflow.source.git.commit": "code git commit",
    "themisto.git_dirty": "code git dirty",
    "themisto.cell_sha256": "code cell",
    "themisto.lock_sha256": "environment lock",
    "themisto.profile": "environment profile",
    "themisto.image": "environment image",
}
_ORDER = ("run", "metric", "parameter", "data", "code", "environment")


def _facts_of(run: Any) -> dict[str, Any]:
    tags = run.data.tags
    facts: dict[str, Any] = {"run name": run.info.run_name, "run status": run.info.status.lower()}
    facts |= {f"metric {key}": value for key, value in run.data.metrics.items()}
    facts |= {f"parameter {key}": value for key, value in run.data.params.items()}
    data = ((k, v) for k, v in tags.items() if k.startswith("themisto.data."))
    facts |= {f"data {key.removeprefix('themisto.data.')}": value for key, value in data}
    return facts | {label: tags[key] for key, label in _PROVENANCE.items() if key in tags}
