"""What a canary of 200 ms, and a shadow, cost those who are answered by the stable release."""

import io
import zipfile
from functools import partial
from typing import Any

from tests.benchmarks.gateway import ONE_ROW, in_turns, lightgbm, load_release, none_failed, pair, served
from tests.benchmarks.load import Load, steady
from tests.benchmarks.record import Record
from tests.integration.gateway.parts import Gateway

from themisto_hub.gateway.routes import Target

_SECONDS = 4
"""Of a steady load."""
_SLOW_MS = 200
_MANY = 128
"""Connections: so many that nobody waits for one which the canary keeps; it answers five a second and is asked ten."""


def run(record: Record) -> None:
    with served(29300) as gateway:
        load_release(gateway, 3, "python", _slow(), lightgbm()[1])
        _beside(record, gateway)


def _beside(record: Record, gateway: Gateway) -> None:
    target, url = gateway.target, f"{gateway.url}/v2/models/bench/infer"

    def at(per_s: int, *targets: Target, **how: Any) -> Load:
        gateway.publish(gateway.route("bench", *targets))
        return none_failed(steady(url, [ONE_ROW], gateway.headers(), per_s=per_s, seconds=_SECONDS, **how))

    alone = target("bench", 1, 100)
    shadow = target("bench", 2, 0, shadow=True)
    pairs = in_turns(partial(at, 400, alone, shadow), partial(at, 400, alone))
    pair(record, "shadow_p50_ms", pairs, 0.5, "no shadow, 400 requests/s")
    split = target("bench", 1, 95), target("bench", 3, 5)
    how = {"clients": _MANY, "answered_by": "bench@1"}
    pairs = in_turns(partial(at, 200, *split, **how), partial(at, 200, alone, **how))
    pair(record, "slow_canary_stable_p99_ms", pairs, 0.99, "no canary, 200 requests/s")


def _slow() -> bytes:
    """The same signature, 200 ms a call."""
    code = f"""
import time
import numpy as np
def predict(frame):
    time.sleep({_SLOW_MS / 1000})
    return {{"label": np.zeros(len(frame), "i8"), "probabilities": np.zeros((len(frame), 2), "f4")}}
"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("function.py", code)
        archive.writestr("signature.json", lightgbm()[1].model_dump_json())
    return packed.getvalue()
