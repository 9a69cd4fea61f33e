"""Pinned: the packages that a stored model needs, each at the version that is installed here."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Collection
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from typing import Any

from themisto.errors import Invalid

__all__ = ["modules_of", "pinned"]


def pinned(modules: Collection[str], distributions: Collection[str]) -> str:
    """`requirements.txt` of an artifact: `# python 3.11`, then `name==version`, with all that these need in turn.

    Raises Invalid, naming the module, for code that no package holds, or that was installed from a folder.
    """
    found: dict[str, Distribution] = {}
    wanted = [*distributions, *(_holder(module) for module in sorted(modules) if module not in sys.stdlib_module_names)]
    while wanted:
        name = wanted.pop()
        try:
            one = distribution(name)
        except PackageNotFoundError:
            continue  # an optional part that is not installed was not used either
        key = one.metadata["Name"].lower().replace("_", "-")
        if key in found:
            continue
        _require_published(one)
        found[key] = one
        wanted += _needs(one)
    lines = [f"{key}=={one.version}" for key, one in sorted(found.items())]
    return "\n".join([f"# python {sys.version_info.major}.{sys.version_info.minor}", *lines]) + "\n"


def modules_of(pickled: bytes) -> set[str]:
    """The top-level packages whose classes and functions are in a pickle that was made here."""
    seen: set[str] = set()

    class Finder(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            seen.add(module.partition(".")[0])
            return super().find_class(module, name)

    Finder(io.BytesIO(pickled)).load()
    return seen - {"__main__", "builtins"}


def _holder(module: str) -> str:
    names = _holders().get(module)
    if not names:
        raise Invalid(
            f"The model needs '{module}', which is a file of yours and no installed package.",
            "Define what it needs in the notebook, or install it as a package with a version.",
        )
    return names[0]


@cache
def _holders() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _needs(one: Distribution) -> list[str]:
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in one.requires or ()]
    return [r.name for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]


def _require_published(one: Distribution) -> None:
    if one.read_text("direct_url.json"):
        raise Invalid(
            f"The model needs '{one.metadata['Name']}', which was installed here from a folder or an address.",
            "Install a published version of it.",
        )
