"""Public: `themisto.deploy` and `themisto.endpoint`, by the process-wide workbench."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from themisto.serving.client import EndpointClient
from themisto.serving.display import Deployment
from themisto.serving.order import Options
from themisto.serving.watching import watcher
from themisto.workbench import workbench

__all__ = ["deploy", "endpoint"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _taking(
    options: Callable[_P, Options],
) -> Callable[[Callable[..., _R]], Callable[Concatenate[str, Any, Any, _P], _R]]:
    """Gives a function the fields of Options as its keywords: for type checkers, completion and `themisto.deploy?`."""

    def decorate(function: Callable[..., _R]) -> Callable[Concatenate[str, Any, Any, _P], _R]:
        own = inspect.signature(function)
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        keywords = inspect.signature(options).parameters.values()
        told = "\n".join(f"{name}: {field.description}" for name, field in Options.model_fields.items())
        function.__signature__ = own.replace(parameters=[*named, *keywords])  # type: ignore[attr-defined]
        function.__doc__ = f"{inspect.getdoc(function)}\n\n{told}"
        return function

    return decorate


@_taking(Options)
def deploy(endpoint: str, model: Any, sample: Any, **options: Any) -> Deployment:
    """Deploy `model` behind `endpoint`, proved on `sample`, a DataFrame of rows as callers will send them.

    themisto.deploy("credit", model, X_valid, strategy="canary", weight_pct=5)

    Raises what `themisto.serving.service.Serving.deploy` raises.
    """
    wb = workbench()
    done = wb.serving.deploy(endpoint, model, sample, watcher=watcher(), **options)
    return Deployment(*done, gateway=wb.control.discovery.gateway.http)


def endpoint(name: str) -> EndpointClient:
    """The client of a deployed endpoint: `themisto.endpoint("credit").predict(df)`.

    Works outside Jupyter too, with THEMISTO_URL and THEMISTO_TOKEN.
    """
    return workbench().serving.endpoint(name)
