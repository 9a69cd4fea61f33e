"""Which MLflow flavor a model has, its pinned requirements, and how it is written to a folder."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from themisto.errors import Failed, Invalid

__all__ = ["flavor_of", "is_fitted", "requirements_for", "save"]

_FLAVORS = ("sklearn", "lightgbm", "xgboost", "onnx")
_BASES = {
    "sklearn": ("BaseEstimator",),
    "lightgbm": ("Booster", "LGBMModel"),
    "xgboost": ("Booster", "XGBModel"),
    "onnx": ("ModelProto",),
}
_DISTRIBUTIONS = {
    "sklearn": ("scikit-learn",),
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "onnx": ("onnx", "onnxruntime"),
    "cloudpickle": ("cloudpickle",),
    "skops": ("skops",),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "scipy": ("scipy",),
}
_ALWAYS = ("numpy", "pandas")


def flavor_of(model: Any) -> str | None:
    """`sklearn`, `lightgbm`, `xgboost`, `onnx`, `function`, or None for what is no model.

    Looks at the names of the classes only, so that nothing is imported to find out.
    """
    lineage = [(c.__module__.partition(".")[0], c.__name__) for c in type(model).__mro__]
    for flavor in ("lightgbm", "xgboost", "onnx", "sklearn"):
        if any(module == flavor and name in _BASES[flavor] for module, name in lineage):
            return flavor
    if callable(model) and getattr(model, "__name__", None) and not isinstance(model, type):
        return "function"
    return None


def is_fitted(model: Any) -> bool:
    """Whether there is something to keep: an estimator that was never fitted is not a result."""
    if flavor_of(model) in (None, "function"):
        return False
    if not any(c.__module__.startswith("sklearn") for c in type(model).__mro__):
        return True
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError):
        return False
    return hasattr(model, "predict") or hasattr(model, "transform")


def requirements_for(model: Any) -> list[str]:
    """The distributions a model needs, pinned to what is installed here.

    MLflow would find them out by loading the model in a new process, which takes twenty seconds.
    """
    modules = {*_ALWAYS, *(m for m in _modules_in(model) if m in _DISTRIBUTIONS)}
    if flavor_of(model) == "function":
        modules.add("cloudpickle")
    if flavor_of(model) in ("sklearn", "lightgbm"):
        modules.add("skops")
    return sorted(pin for module in modules for pin in _pins(module))


def save(
    model: Any,
    folder: Path,
    *,
    mlflow_model: Any = None,
    signature: Any = None,
    requirements: Sequence[str] | None = None,
    input_example: Any = None,
) -> None:
    """Write the model as an MLflow model folder. Raises Invalid for what no flavor fits."""
    flavor = flavor_of(model)
    if flavor is None:
        raise Invalid(
            f"A {type(model).__name__} is not a model that can be logged.",
            "Use a scikit-learn, LightGBM, XGBoost or ONNX model, or a plain function.",
        )
    common: dict[str, Any] = {
        "path": str(folder),
        "mlflow_model": mlflow_model,
        "signature": signature,
        "input_example": input_example,
        "pip_requirements": list(requirements or requirements_for(model)),
    }
    with _quiet():
        try:
            _writer(flavor)(model, common)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # every flavor raises its own kinds
            raise Failed(f"The {type(model).__name__} could not be saved: {error}") from error


def _writer(flavor: str) -> Callable[[Any, dict[str, Any]], None]:
    return {
        "sklearn": _save_sklearn,
        "lightgbm": _save_lightgbm,
        "xgboost": _save_xgboost,
        "onnx": _save_onnx,
        "function": _save_function,
    }[flavor]


def _save_sklearn(model: Any, common: dict[str, Any]) -> None:
    """As skops, which runs no code when it is loaded; its own check lists the foreign types a model holds."""
    import mlflow.sklearn

    mlflow.sklearn.save_model(model, skops_trusted_types=_skops_types(model), **common)


def _save_lightgbm(model: Any, common: dict[str, Any]) -> None:
    import mlflow.lightgbm

    mlflow.lightgbm.save_model(model, skops_trusted_types=_skops_types(model), **common)


def _save_xgboost(model: Any, common: dict[str, Any]) -> None:
    import mlflow.xgboost

    mlflow.xgboost.save_model(model, **common)


def _save_onnx(model: Any, common: dict[str, Any]) -> None:
    import mlflow.onnx

    mlflow.onnx.save_model(model, save_as_external_data=False, **common)


def _save_function(function: Any, common: dict[str, Any]) -> None:
    from mlflow.pyfunc import save_model
    from mlflow.pyfunc.model import PythonModel

    class Function(PythonModel):
        """The person's function, called with the whole frame."""

        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            # Without annotations: MLflow reads them as the model's signature.
            return function(model_input)

    save_model(python_model=Function(), **common)


def _skops_types(model: Any) -> list[str]:
    """Types inside the model that skops does not know: ours to trust, as we just made them."""
    import skops.io

    return list(skops.io.get_untrusted_types(data=skops.io.dumps(model)))


def _modules_in(model: Any) -> Iterator[str]:
    """Top-level modules of the model's classes and, for a pipeline, of its steps'."""
    parts = [model]
    if hasattr(model, "get_params"):
        parts += list(model.get_params(deep=True).values())
    for part in parts:
        for kind in type(part).__mro__:
            yield kind.__module__.partition(".")[0]


def _pins(module: str) -> Iterator[str]:
    for name in _DISTRIBUTIONS[module]:
        try:
            yield f"{name}=={importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow's hints about pip and input examples are not for the person at the notebook."""
    loggers = [logging.getLogger(name) for name in sys.modules if name.startswith("mlflow") and name.count(".") < 3]
    levels = [(logger, logger.level) for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)
