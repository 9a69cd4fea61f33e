"""MLflow's own server, made inside this process: its basic-auth app with workspaces, on SQLite and files."""

from __future__ import annotations

import configparser
import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from themisto_hub.settings import Deployment

__all__ = ["create_mlflow"]

_BOOTSTRAP = "bootstrap of themisto"  # a name with blanks: nobody at the hub can have it


def create_mlflow(settings: Deployment) -> ASGIApp:
    """The app that `mlflow server --app-name basic-auth --enable-workspaces --workers 1` would run.

    In this process instead of in its grandchild: one process to supervise, nothing left behind by
    kill -9, half the memory. The settings travel as the environment variables that MLflow's own
    command hands to its workers, so this must be called before anything imports `mlflow.server`.
    """
    folder = settings.folder("tracking")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.update(_environment(settings, folder))
    os.environ.pop("MLFLOW_WORKSPACE", None)

    from mlflow.server import app, handlers
    from mlflow.server import auth as basic_auth

    handlers.initialize_backend_stores(_database(folder, "mlflow"), _database(folder, "mlflow"), "mlflow-artifacts:/")
    inner: ASGIApp = basic_auth.create_app(app)
    return inner


def _environment(settings: Deployment, folder: Path) -> dict[str, str]:
    from mlflow.server import constants

    public = urlsplit(settings.public)
    hosts = [public.netloc, f"127.0.0.1:{settings.ports.tracking}", f"localhost:{settings.ports.tracking}"]
    return {
        constants.BACKEND_STORE_URI_ENV_VAR: _database(folder, "mlflow"),
        constants.REGISTRY_STORE_URI_ENV_VAR: _database(folder, "mlflow"),
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: (folder / "artifacts").as_uri(),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.FLASK_SERVER_SECRET_KEY_ENV_VAR: secrets.token_hex(32),
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_AUTH_CONFIG_PATH": str(_auth_config(folder)),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_urlsafe(48),
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_WORKSPACES": "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"{public.scheme}://{public.netloc}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _database(folder: Path, name: str) -> str:
    return f"sqlite:///{folder / f'{name}.db'}"


def _auth_config(folder: Path) -> Path:
    """MLflow's basic_auth.ini: our authorization function, and no permission but what members.py gives."""
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": _database(folder, "permissions"),
        "admin_username": _BOOTSTRAP,
        "authorization_function": "themisto_hub.tracking_server.members:authorize",
        "grant_default_workspace_access": "false",
    }
    file = folder / "auth.ini"
    with file.open("w") as out:
        config.write(out)
    return file
