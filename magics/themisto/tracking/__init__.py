"""Runs: `themisto.track("delay")` records one, as `%%track` does for a cell."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from themisto.tracking.recording import Recording

__all__ = ["track"]


def track(
    experiment: str,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | Sequence[Any] | None = None,
    autolog: bool = True,
) -> Recording:
    """Record the body of a `with` as a run; see `Tracking.track`.

    Models that the body binds to names of the caller are logged, and `run.result(value)` hands over
    others, or metrics as a dict:

        with themisto.track("delay", data=[flights]) as run:
            model = LGBMRegressor().fit(X, y)
            run.result({"rmse": rmse})
    """
    from themisto.workbench import workbench

    frame = sys._getframe(1)
    return workbench().tracking.track(
        experiment,
        name=name,
        tags=tags,
        data=data,
        autolog=autolog,
        namespace=lambda: {**frame.f_globals, **frame.f_locals},
    )
