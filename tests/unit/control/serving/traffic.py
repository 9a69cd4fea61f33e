"""A day's traffic in the prediction log's own files, as the gateway's tail writes them."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

from tests.unit.control.serving.conftest import World

from themisto_hub.control.serving.analysis import ENOUGH
from themisto_hub.control.serving.analyst import Analyst
from themisto_hub.control.serving.steps import Steps
from themisto_hub.gateway.predictions import write_parquet

_numbers = itertools.count()


class Traffic:
    """Writes answers of the endpoint `credit`, and has the analyst look at them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.folder = world.control.settings.folder("gateway") / "predictions"
        self.steps = Steps(world.control, world.changes)
        self.analyst = Analyst(world.control, self.steps)

    def answers(self, release: int, good: int, failed: int = 0, **fields: Any) -> None:
        """`good` and `failed` answers of credit@`release`, one a millisecond, from now on."""
        self.world.clock.pass_(seconds=1)
        start = self.world.clock()
        usual = {
            "endpoint": "credit",
            "protocol": "http",
            "path": "/",
            "latency_ms": 5.0,
            "release": f"credit@{release}",
        }
        rows = [
            usual | {"time": start + timedelta(milliseconds=n), "status": 200 if n < good else 500} | fields
            for n in range(good + failed)
        ]
        write_parquet(self.folder, f"part-{next(_numbers):06d}", rows)
        self.world.clock.pass_(seconds=60)

    def enough(self) -> None:
        """As many good answers of both releases as a step needs at the most."""
        self.answers(1, 300)
        self.answers(2, ENOUGH)

    def look(self) -> Any:
        """The endpoint after a look."""
        self.analyst.look()
        return self.endpoint()

    def endpoint(self) -> Any:
        return self.world.endpoints.get(self.world.caller(), "credit")

    def events(self, action: str) -> list[Any]:
        return [row for row in self.world.audit() if row.action == action]
