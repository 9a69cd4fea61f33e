"""The way to MLflow: the workbench's server, or files under `settings.home` where there is none."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.client import map_httpx_errors
from themisto.errors import Conflict, Failed, Invalid, NotFound, Refused, ThemistoError, Unauthenticated, Unavailable
from themisto.types import new_ulid

if TYPE_CHECKING:
    import httpx
    from mlflow import MlflowClient

    from themisto.client import ControlPlane
    from themisto.settings import Settings

__all__ = ["Connection", "is_outage", "mlflow_errors"]

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",  # loses data when the server dies, and its flush returns normally
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is gone is found out in seconds; what it missed is kept (see outbox.py).
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
_KINDS: dict[str, type[ThemistoError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "NOT_FOUND": NotFound,
    "RESOURCE_ALREADY_EXISTS": Conflict,
    "RESOURCE_CONFLICT": Conflict,
    "PERMISSION_DENIED": Refused,
    "UNAUTHENTICATED": Unauthenticated,
    "CUSTOMER_UNAUTHORIZED": Unauthenticated,
    "INVALID_PARAMETER_VALUE": Invalid,
    "BAD_REQUEST": Invalid,
    "INVALID_STATE": Conflict,
}
_REFUSED = re.compile(r"API request to .* failed with error code (?P<status>\d+) != 200")
_AGAIN = "Nothing was started; run the same cell again in a moment."


class Connection:
    """MLflow for one person: where it is, whether it answers, and its client.

    Making one costs nothing; `client` imports MLflow and points the whole process at the store, so that
    the person's own `mlflow.log_metric` lands in the same place.
    """

    def __init__(self, settings: Settings, control: ControlPlane | None) -> None:
        self._settings = settings
        self._control = control

    @property
    def remote(self) -> bool:
        """True where runs go to the workbench's tracking server."""
        return self._control is not None

    @cached_property
    def uri(self) -> str:
        """MLflow's tracking URI: the discovery document's, or SQLite under `settings.home`."""
        if self._control is not None:
            return self._control.discovery.tracking.rstrip("/")
        folder = self._settings.home / "tracking"
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder / 'mlflow.db'}"

    @property
    def workspace(self) -> str:
        """MLflow's workspace: the group this kernel acts for."""
        return self._control.group if self._control is not None else ""

    @property
    def key(self) -> str:
        """Tells one store and workspace from another (runs kept for one are never sent to another)."""
        return f"{self.uri}#{self.workspace}"

    def experiment_names(self) -> list[str]:
        """Names of the experiments there are, newest first; quick, and without importing MLflow (for Tab)."""
        if self._control is None:
            return _names_in(self._settings.home / "tracking" / "mlflow.db")
        found = self._search_experiments(500, timeout_s=2.0).json().get("experiments", [])
        return [str(row["name"]) for row in found]

    def _search_experiments(self, limit: int, *, timeout_s: float) -> httpx.Response:
        import httpx

        assert self._control is not None
        with map_httpx_errors("tracking server"):
            return httpx.post(
                f"{self.uri}/api/2.0/mlflow/experiments/search",
                json={"max_results": limit},
                headers={"Authorization": f"Bearer {self._control.token}", "X-MLFLOW-WORKSPACE": self.workspace},
                timeout=timeout_s,
            )

    def check(self) -> None:
        """Make sure, quickly, that a run could be recorded now.

        Raises Unavailable when the server does not answer, Refused when it does not let the caller in.
        """
        if self._control is None:
            return
        try:
            answer = self._search_experiments(1, timeout_s=10.0)
        except Unavailable as error:
            raise Unavailable(error.detail, _AGAIN) from None
        if answer.status_code in (401, 403):
            raise Refused(
                f"The tracking server does not let you into the workspace '{self.workspace}'.",
                "%themisto whoami shows your groups; log in again if they have changed.",
            )
        if answer.status_code >= 400:
            raise Unavailable(f"The tracking server answered HTTP {answer.status_code}.", _AGAIN)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client; the whole process now tracks here. Synchronous: nothing is left behind in a queue."""
        self._point_environment()
        import mlflow

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        if self.remote:
            mlflow.set_workspace(self.workspace)
            from themisto.tracking.mlflow_stores import install

            install()
        return mlflow.MlflowClient(self.uri, self.uri)

    def refresh(self) -> None:
        """Hand the present token to MLflow: it may have been renewed since the last run."""
        if self._control is not None:
            os.environ["MLFLOW_TRACKING_TOKEN"] = self._control.token

    def _point_environment(self) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        os.environ["MLFLOW_TRACKING_URI"] = self.uri
        if self._control is not None:
            os.environ["MLFLOW_TRACKING_TOKEN"] = self._control.token
            os.environ["MLFLOW_WORKSPACE"] = self.workspace

    def experiment_id(self, name: str) -> str:
        """The experiment called `name`, made when it is not there yet. Raises Conflict for a deleted one."""
        with mlflow_errors():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                return self._create_experiment(name)
        if found.lifecycle_stage == "deleted":
            raise Conflict(f"The experiment '{name}' was deleted.", "Use another name, or restore it in MLflow.")
        return str(found.experiment_id)

    def _create_experiment(self, name: str) -> str:
        location = None
        if not self.remote:
            location = (self._settings.home / "tracking" / "artifacts" / new_ulid()).as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except Exception as error:
            if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                raise
            again = self.client.get_experiment_by_name(name)  # another kernel was faster
            assert again is not None
            return str(again.experiment_id)

    def run_url(self, experiment_id: str, run_id: str) -> str | None:
        """The run's page in MLflow, or None where no server shows it."""
        if not self.remote:
            return None
        return f"{self.uri}/#/experiments/{experiment_id}/runs/{run_id}?workspace={self.workspace}"


def _names_in(database: Path) -> list[str]:
    import sqlite3

    if not database.exists():
        return []
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1.0)) as db:
        rows = db.execute("SELECT name FROM experiments WHERE lifecycle_stage = 'active' ORDER BY experiment_id DESC")
        return [name for (name,) in rows if name != "Default"]


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Turn MLflow's exceptions into ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise _ours(error) from error


def _ours(error: Any) -> ThemistoError:
    if is_outage(error):
        return Unavailable("The tracking server does not answer.", "Run the same command again in a moment.")
    detail = str(error.message).strip().partition("\n")[0]
    if _REFUSED.match(detail):
        return Refused("The tracking server refuses this.", "It is not there, or not your group's.")
    return _KINDS.get(error.error_code, Failed)(f"MLflow says: {detail}")


def is_outage(error: BaseException) -> bool:
    """Whether the server is away (or does not know us any more), not the request wrong.

    What was to be logged is worth keeping then: the same request may go through later.
    """
    from mlflow.exceptions import MlflowException, RestException
    from requests.exceptions import ConnectionError as Lost
    from requests.exceptions import HTTPError, Timeout

    if isinstance(error, RestException):  # MLflow's own answer
        return _away(_status(error), of_mlflow=True)
    if isinstance(error, MlflowException):
        found = _REFUSED.match(str(error.message))
        if found is None:
            return str(error.message).startswith("API request to") and "exception" in str(error.message)
        return _away(int(found["status"]), of_mlflow=False)
    if isinstance(error, HTTPError):
        return error.response is None or _away(error.response.status_code, of_mlflow=True)
    return isinstance(error, Lost | Timeout | ConnectionError | TimeoutError)


def _away(status: int, *, of_mlflow: bool) -> bool:
    """404 is the proxy's word for a server that has not come back yet, unless MLflow says it."""
    return status >= 500 or status == 401 or (status == 404 and not of_mlflow)


def _status(error: Any) -> int:
    return int(error.get_http_status_code())
