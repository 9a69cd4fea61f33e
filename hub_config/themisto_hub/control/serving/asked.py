"""Asked: how often endpoints were asked lately, from the prediction log."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta

from themisto_hub.control.context import Control
from themisto_hub.gateway.callers import count_callers

__all__ = ["Asked"]

_LATELY = timedelta(hours=1)
_log = logging.getLogger(__name__)


class Asked:
    """Callable: answers of each endpoint in the last hour. Nothing where the log cannot be read: it only orders."""

    def __init__(self, control: Control) -> None:
        self._folder = control.settings.folder("gateway") / "predictions"
        self._clock = control.clock

    def __call__(self, endpoints: Collection[str]) -> Mapping[str, int]:
        import duckdb

        try:
            counts = count_callers(self._folder, list(endpoints), self._clock() - _LATELY)
        except (OSError, duckdb.Error) as error:
            _log.warning("the prediction log cannot be read, so models are loaded in no order: %s", error)
            return {}
        total: Counter[str] = Counter()
        for one in counts:
            total[one.endpoint] += one.answers
        return total
