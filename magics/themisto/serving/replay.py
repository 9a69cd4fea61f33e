"""Replay: golden requests, asked again through the gateway, of one release."""

from __future__ import annotations

import time
import uuid
from statistics import median

from themisto.errors import ParityError, Unavailable
from themisto.serving.frame import from_json, to_frame
from themisto.serving.gateway import Gateway
from themisto.serving.models import Release
from themisto.serving.parity import Tolerance, compare
from themisto.types import Model

__all__ = ["Replayed", "replay"]

_TRIES = 400


class Replayed(Model):
    """How one release answered its golden requests over the wire."""

    release: str
    rows: int
    agrees: bool
    detail: str
    p50_ms: float


def replay(gateway: Gateway, release: Release) -> Replayed:
    """Find a key that leads to `release`, then ask row by row with it; the same key stays with the same release."""
    signature, golden = release.signature, release.golden
    inputs = from_json(golden.inputs, signature.inputs)
    expected = from_json(golden.outputs, signature.outputs)
    rows = len(next(iter(inputs.values())))
    key = _key_to(gateway, release, {name: array[:1] for name, array in inputs.items()})
    answers, milliseconds = [], []
    for row in range(rows):
        one = {name: array[row : row + 1] for name, array in inputs.items()}
        started = time.perf_counter()
        answers.append(gateway.infer(release.endpoint, signature.inputs, one, key=key).outputs)
        milliseconds.append((time.perf_counter() - started) * 1000)
    import numpy as np

    got = {name: np.concatenate([a[name].reshape(1, *expected[name].shape[1:]) for a in answers]) for name in expected}
    tolerance = Tolerance(rtol=golden.rtol, atol=golden.atol, scale=False)
    try:
        agrees, detail = True, str(compare(expected, got, to_frame(inputs), tolerance))
    except ParityError as error:
        agrees, detail = False, error.detail
    return Replayed(release=str(release), rows=rows, agrees=agrees, detail=detail, p50_ms=median(milliseconds))


def _key_to(gateway: Gateway, release: Release, first: dict) -> str:  # type: ignore[type-arg]
    for _ in range(_TRIES):
        key = uuid.uuid4().hex
        answer = gateway.infer(release.endpoint, release.signature.inputs, first, key=key)
        if answer.release == str(release):
            return key
    raise Unavailable(
        f"{release} got none of {_TRIES} requests.", f"Its weight may be near zero: %deploy status {release.endpoint}."
    )
