"""MLflow keeps where it points in the process and its environment; tests give both back."""

import os
from contextlib import contextmanager


@contextmanager
def mlflow_forgets():
    """Whatever MLflow is pointed at within, it forgets afterwards."""
    before = dict(os.environ)
    import mlflow

    try:
        yield
    finally:
        while mlflow.active_run() is not None:
            mlflow.end_run()
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri("")
        mlflow.set_workspace(None)
        for key in set(os.environ) - set(before):
            del os.environ[key]
        os.environ.update(before)
