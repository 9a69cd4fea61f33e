"""Model versions: any deployable as one more version of a registered model, with where it came from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Conflict, Invalid, NotFound
from themisto.tracking import flavors
from themisto.tracking.connection import mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from themisto.tracking.connection import Connection
    from themisto.tracking.models import Lineage

__all__ = ["log_model", "log_version", "register_run", "save_model", "set_alias", "upload_model"]

_EXPERIMENT = "deployments"
_EXAMPLE_ROWS = 5
_MARK = "themisto.mark"


def log_version(
    connection: Connection,
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
    """Log `model` and make it the next version of the registered model `name`.

    model: scikit-learn, LightGBM, XGBoost, an ONNX ModelProto, or a function of a DataFrame.
    signature_df, outputs: a sample and the model's answers to it, from which MLflow's signature is read.
    pip_requirements: pinned; default: what the model's classes need, as installed here.
    lineage: the run it came from; without one the version stands alone, in the experiment 'deployments'.
    alias: points to the new version afterwards.

    Returns `models:/<name>/<version>`. Raises Invalid for what is no model, Unavailable when the
    tracking server does not answer; then nothing is half-done that a second call would not mend.
    """
    client = connection.client
    with mlflow_errors():
        run_id, experiment_id = _origin(connection, client, lineage)
        logged = log_model(
            client,
            model,
            experiment_id=experiment_id,
            run_id=run_id,
            name=name,
            signature_df=signature_df,
            outputs=outputs,
            pip_requirements=pip_requirements,
            params=lineage.parameters if lineage else {},
        )
        return _new_version(client, name, logged, run_id=run_id, tags=tags or {}, alias=alias)


def _origin(connection: Connection, client: MlflowClient, lineage: Lineage | None) -> tuple[str | None, str]:
    if lineage is not None:
        return lineage.run_id, str(client.get_run(lineage.run_id).info.experiment_id)
    return None, connection.experiment_id(_EXPERIMENT)


def log_model(
    client: MlflowClient,
    model: Any,
    *,
    experiment_id: str,
    run_id: str | None,
    name: str,
    signature_df: Any = None,
    outputs: Any = None,
    pip_requirements: Sequence[str] | None = None,
    params: Mapping[str, str] | None = None,
) -> Any:
    """Write the model to a folder, then to MLflow as a logged model of the run; returns MLflow's LoggedModel."""
    with tempfile.TemporaryDirectory(prefix="themisto-") as scratch:
        folder = Path(scratch) / "model"
        save_model(model, folder, signature_df=signature_df, outputs=outputs, pip_requirements=pip_requirements)
        return upload_model(client, folder, experiment_id=experiment_id, run_id=run_id, name=name, params=params)


def save_model(
    model: Any,
    folder: Path,
    *,
    signature_df: Any = None,
    outputs: Any = None,
    pip_requirements: Sequence[str] | None = None,
) -> None:
    """The model as an MLflow model folder, with signature and example where a sample is given."""
    flavors.save(
        model,
        folder,
        signature=_signature(signature_df, outputs),
        requirements=pip_requirements,
        input_example=None if signature_df is None else signature_df.head(_EXAMPLE_ROWS),
    )


def upload_model(
    client: MlflowClient,
    folder: Path,
    *,
    experiment_id: str,
    run_id: str | None,
    name: str,
    params: Mapping[str, str] | None = None,
    mark: str | None = None,
) -> Any:
    """A saved model folder as a logged model, linked to its run.

    mark: one that is there already with this mark is finished instead of a second one being made.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    logged = _marked(client, experiment_id, mark)
    if logged is None:
        tags = {_MARK: mark} if mark else {}
        logged = client.create_logged_model(
            experiment_id, name=name, source_run_id=run_id, params=dict(params or {}), tags=tags
        )
    elif str(logged.status) == "READY":
        return logged
    stated = Model.load(str(folder))
    stated.model_uuid = stated.model_id = logged.model_id
    stated.run_id = run_id
    stated.artifact_path = logged.artifact_location
    stated.save(str(folder / "MLmodel"))
    client.log_model_artifacts(logged.model_id, str(folder))
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def _marked(client: MlflowClient, experiment_id: str, mark: str | None) -> Any:
    if mark is None:
        return None
    found = client.search_logged_models([experiment_id], filter_string=f"tags.`{_MARK}` = '{mark}'", max_results=1)
    return found[0] if found else None


def _new_version(
    client: MlflowClient, name: str, logged: Any, *, run_id: str | None, tags: Mapping[str, str], alias: str | None
) -> str:
    _ensure_registered(client, name)
    version = client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=run_id,
        tags=dict(tags),
        model_id=logged.model_id,
        await_creation_for=0,
    ).version
    if alias:
        client.set_registered_model_alias(name, alias, str(version))
    return f"models:/{name}/{version}"


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise


def register_run(connection: Connection, run_id: str, name: str, alias: str | None = None) -> str:
    """Make the model that a run logged the next version of `name`; returns `models:/<name>/<version>`.

    Raises NotFound when the run logged none, Conflict when it logged several.
    """
    client = connection.client
    with mlflow_errors():
        run = client.get_run(run_id)
        ids = [out.model_id for out in (run.outputs.model_outputs if run.outputs else [])]
        if not ids:
            raise NotFound(
                f"The run {run_id} logged no model.", "Let the cell's last value be the model, and run it again."
            )
        if len(ids) > 1:
            names = [client.get_logged_model(i).name for i in ids]
            raise Conflict(
                f"The run {run_id} logged several models: {', '.join(names)}.",
                "Let the cell's last value be the one to register, and run it again.",
            )
        logged = client.get_logged_model(ids[0])
        return _new_version(client, name, logged, run_id=run_id, tags={}, alias=alias)


def set_alias(connection: Connection, uri: str, alias: str) -> None:
    """Let `alias` point to the version `models:/<name>/<version>`."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    if not name or not version.isdigit():
        raise Invalid(f"'{uri}' is not models:/NAME/VERSION.")
    with mlflow_errors():
        connection.client.set_registered_model_alias(name, alias, version)


def _signature(signature_df: Any, outputs: Any) -> Any:
    if signature_df is None:
        return None
    from mlflow.exceptions import MlflowException
    from mlflow.models import infer_signature

    try:
        return infer_signature(signature_df, outputs)
    except MlflowException as error:
        raise Invalid(f"No signature can be read from the sample: {error.message}") from error
