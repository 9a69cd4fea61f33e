"""Benching: has the control plane measure a release, follows it, and releases the configuration it proposes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from themisto.errors import Failed, Invalid, NotFound, ThemistoError, Unavailable
from themisto.serving.bench import Bench, BenchRequest, proposal
from themisto.serving.lookup import release_of
from themisto.serving.models import Release, ReleaseRequest
from themisto.serving.progress import Stages
from themisto.serving.rollout import RolloutRequest

if TYPE_CHECKING:
    from themisto.client import ControlPlane

__all__ = ["measure", "release_proposed"]

_POLL_S = 0.5
_SLACK_S = 180.0


def measure(control: ControlPlane, endpoint: str, request: BenchRequest, stages: Stages) -> Bench:
    """Run a bench to its end. An interrupt ends it at the control plane, too.

    Raises Conflict while another one runs, NotFound, Refused, Unavailable, Failed.
    """
    path = f"endpoints/{endpoint}/benches"
    with stages.stage("bench") as stage:
        bench = Bench.model_validate(control.post(path, request.model_dump(mode="json")))
        try:
            bench = _followed(control, f"{path}/{bench.id}", bench, request, stages)
        except BaseException as error:
            with suppress(ThemistoError):
                control.delete(f"{path}/{bench.id}")
            if isinstance(error, KeyboardInterrupt):
                measured = stage.note.partition(";")[0] or "nothing measured"
                raise Failed(f"Interrupted: {measured}; the bench was ended.", "Run the same line again.") from None
            raise
        if bench.state != "done":
            raise Failed(f"The bench of {endpoint}@{bench.release} {bench.state}: {bench.message}", "Run it again.")
        left_out = f"; {bench.message}" if bench.message else ""
        stage.note = f"{len(bench.points)} points of {endpoint}@{bench.release}{left_out}"
    return bench


def _followed(control: ControlPlane, path: str, bench: Bench, request: BenchRequest, stages: Stages) -> Bench:
    until = time.monotonic() + request.seconds + _SLACK_S
    while bench.state == "running":
        if time.monotonic() > until:
            raise Unavailable("The bench does not come to its end.", "Run it again with fewer --seconds.")
        time.sleep(_POLL_S)
        try:
            bench = Bench.model_validate(control.get(path))
        except NotFound:
            raise Failed("The control plane was started anew; the bench is gone.", "Run it again.") from None
        stages.note(f"{len(bench.points)} of {bench.expected} points measured; now {bench.message}")
    return bench


def release_proposed(control: ControlPlane, bench: Bench, slo: Mapping[str, str]) -> Release:
    """A new release of the same artifact, served as `bench` proposes for `slo`, on the same way as any:
    loaded, its goldens repeated, for prod approved by another person, then a canary.

    Raises NotFound where no configuration meets `slo`, Invalid where nothing would change, Conflict,
    Refused, Unavailable.
    """
    proposed = proposal(bench, slo)
    if proposed is None:
        asked = ", ".join(f"{name}={value}" for name, value in slo.items())
        raise NotFound(f"No configuration met {asked}: nothing was released.", "Relax it, or make the model smaller.")
    path = f"endpoints/{bench.endpoint}/releases"
    before = release_of(control, bench.endpoint, bench.release)
    if before.serving == proposed[1]:
        raise Invalid(f"{before} is served that way already.", "There is nothing to apply.")
    fields: dict[str, Any] = {name: getattr(before, name) for name in ReleaseRequest.model_fields}
    request = ReleaseRequest(**fields | {"serving": proposed[1], "rollout": RolloutRequest()})
    key = hashlib.sha256(f"{bench.id} {request.content_hash}".encode()).hexdigest()
    return Release.model_validate(control.post(path, request.model_dump(mode="json"), idempotency_key=key))
