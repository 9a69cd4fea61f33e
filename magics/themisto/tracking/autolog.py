"""Autologging for the model libraries a cell uses, only while it runs."""

from __future__ import annotations

import ast
import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["autologging", "libraries_in"]

_LIBRARIES = ("sklearn", "lightgbm", "xgboost")
_LOGGERS = ("mlflow.utils.autologging_utils", "mlflow.sklearn", "mlflow.lightgbm", "mlflow.xgboost", "mlflow.tracking")


def libraries_in(source: str) -> list[str]:
    """Model libraries that are imported already, or that `source` imports."""
    wanted = {name for name in _LIBRARIES if name in sys.modules}
    try:
        tree = ast.parse(source)
    except SyntaxError:  # IPython's own syntax; what it imports by itself is found in sys.modules next time
        return sorted(wanted)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        wanted |= {name.partition(".")[0] for name in names} & set(_LIBRARIES)
    return sorted(wanted)


@contextmanager
def autologging(libraries: list[str]) -> Iterator[None]:
    """Parameters and metrics of these libraries go to the active run; afterwards they go nowhere.

    Models are not logged here: MLflow would find out their requirements by loading each in a new
    process, which takes twenty seconds.
    """
    levels = [(logger, logger.level) for logger in map(logging.getLogger, _LOGGERS)]
    modules = []
    try:
        for logger, _ in levels:
            logger.setLevel(logging.ERROR)
        for name in libraries:
            module = importlib.import_module(f"mlflow.{name}")
            module.autolog(log_models=False, log_datasets=False, silent=True)
            modules.append(module)
        yield
    finally:
        for module in modules:
            module.autolog(disable=True, silent=True)
        for logger, level in levels:
            logger.setLevel(level)
