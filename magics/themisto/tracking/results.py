"""What a body made: the metrics and models in its value, and the models it fitted or bound to names."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from themisto.tracking.flavors import flavor_of, is_fitted

__all__ = ["Made", "fitted_names", "made_by", "metrics_in", "signature_sample"]

_MOST_MODELS = 4
_SAMPLE_ROWS = 50


class Made:
    """Models by name: `logged` are kept with the run, `all` are known to come from it."""

    def __init__(self, logged: dict[str, Any], every: dict[str, Any]) -> None:
        self.logged = logged
        self.all = every


def made_by(value: Any, before: Mapping[str, int], after: Mapping[str, Any], source: str) -> Made:
    """The models of a body.

    value: its last value; models in it (alone or in a tuple) are the ones to log, by their variables' names.
        Without any, those it bound to names or fitted, four at most.
    before: identities of the variables before it ran. after: the variables now.
    """
    refitted = fitted_names(source)
    bound = {
        name: model
        for name, model in after.items()
        if not name.startswith("_") and (before.get(name) != id(model) or name in refitted) and is_fitted(model)
    }
    names = {id(model): name for name, model in reversed(bound.items())}
    bound = {name: model for name, model in bound.items() if names[id(model)] == name}  # one name each
    returned = {}
    for number, model in enumerate(part for part in _parts(value) if is_fitted(part) or flavor_of(part) == "function"):
        returned[names.get(id(model)) or _known_as(model, after) or f"model{number or ''}"] = model
    return Made(returned or dict(list(bound.items())[:_MOST_MODELS]), {**bound, **returned})


def metrics_in(value: Any) -> Iterator[tuple[str, float]]:
    """Numbers by name: a dict of them, alone or in a tuple."""
    for part in _parts(value):
        if isinstance(part, Mapping) and part and all(_is_number(v) for v in part.values()):
            yield from ((str(key), float(number)) for key, number in part.items())


def fitted_names(source: str) -> set[str]:
    """Variables whose `fit` the source calls.

    >>> fitted_names("model.fit(X, y)")
    {'model'}
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:  # IPython's own syntax
        return set()
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        f.value.id for f in calls if isinstance(f, ast.Attribute) and f.attr == "fit" and isinstance(f.value, ast.Name)
    }


def signature_sample(model: Any, frames: Iterable[Any]) -> tuple[Any, Any]:
    """Rows of a frame that has all the model's columns, and its answers: enough for a signature; else Nones."""
    wanted = getattr(model, "feature_names_in_", None)
    if wanted is None:
        return None, None
    for frame in frames:
        if hasattr(frame, "head") and set(wanted) <= set(getattr(frame, "columns", ())):
            sample = frame.head(_SAMPLE_ROWS)[list(wanted)]
            try:
                return sample, model.predict(sample)
            except Exception:  # noqa: BLE001 - a signature is welcome, never worth a failed run
                return None, None
    return None, None


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _known_as(model: Any, names: Mapping[str, Any]) -> str | None:
    return next((name for name, value in names.items() if value is model and not name.startswith("_")), None)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | str):
        return False
    return isinstance(value, int | float) or (hasattr(value, "dtype") and getattr(value, "shape", None) == ())
