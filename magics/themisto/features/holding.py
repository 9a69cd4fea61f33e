"""Holding rows: a view with its rows, which stay for as long as they are worked with, whatever becomes of the view."""

from __future__ import annotations

from pathlib import Path

from themisto.errors import NotFound, Unavailable
from themisto.features.records import RegisteredView
from themisto.features.registry import Registry

__all__ = ["hold"]

_TRIES = 5


def hold(registry: Registry, name: str, folder: Path) -> tuple[RegisteredView, Path]:
    """A view and its rows, by a name of our own in `folder`; both as they are now, and of each other.

    Another kernel may apply the view again meanwhile, or an erasure remove rows from this home: then what the view is
    and has by now is fetched anew.
    Raises NotFound where the view has no rows, or where they are gone and it has no others.
    """
    own = folder / f"rows-{name}.parquet"
    for _ in range(_TRIES):
        view = registry.view(name)
        try:
            path = registry.file(view)
            own.hardlink_to(path)
        except FileNotFoundError:  # removed just now: what is left of them is downloaded
            continue
        except NotFound:
            if registry.view(name).data == view.data:
                raise
        except OSError:  # another disk
            return view, path
        else:
            return view, own
    raise Unavailable(f"The rows of '{name}' are removed as fast as they come.", "Try again in a moment.")
