"""Mover: takes one rollout from `loading` as far as it goes without a person."""

from __future__ import annotations

import logging
import statistics
import time

from themisto.errors import ThemistoError, Unavailable
from themisto.serving.models import Release
from themisto_hub.control.gates.keeper import Gatekeeper
from themisto_hub.control.serving.fallbacks import rule_of
from themisto_hub.control.serving.goldens import first_row, replay
from themisto_hub.control.serving.progress import Progress, Work
from themisto_hub.control.serving.prover import Prover
from themisto_hub.control.serving.tritons import Tritons
from themisto_hub.control.tracing import rollout_step

__all__ = ["Mover"]

_log = logging.getLogger(__name__)
MAX_TRIES = 40
"""With pauses of up to 30 s: about twenty minutes of a service that does not answer."""


class Mover:
    """Each step can be repeated: after a crash, `advance` starts the rollout's current part again."""

    def __init__(self, progress: Progress, tritons: Tritons, prover: Prover, gatekeeper: Gatekeeper) -> None:
        self._progress = progress
        self._tritons = tritons
        self._prover = prover
        self._gatekeeper = gatekeeper

    def advance(self, work: Work) -> None:
        """Prove (prod, before approval) and judge the gates, or load, replay, warm up and move traffic.

        What goes wrong ends in the rollout's state, never in an exception; a service that does not
        answer leaves it where it is, to be tried again.
        """
        stage = ["prove" if work.needs_proof else "load"]
        try:
            if work.needs_proof:
                self._prove(work, stage)
            else:
                self._load(work, stage)
        except Unavailable as error:
            if work.tries + 1 >= MAX_TRIES:
                self._progress.failed(work.rollout, stage[0], f"gave up: {error.detail}")
            else:
                self._progress.again(work.rollout, f"{error.detail} Trying again.")
        except ThemistoError as error:
            _log.warning("%s failed at %s: %s", work.release, stage[0], error.detail)
            self._progress.failed(work.rollout, stage[0], error.detail)
        except Exception:  # noqa: BLE001 - the endpoint must not stay busy with a release that nothing can load
            _log.exception("%s failed at %s", work.release, stage[0])
            why = "the control plane met an error of its own with this release; its log says more"
            self._progress.failed(work.rollout, stage[0], why)

    def _prove(self, work: Work, stage: list[str]) -> None:
        """Goldens (in dev they are replayed at the load), then the gates."""
        said = ""
        if work.release.tier == "prod":
            self._progress.note(work.rollout, "prove", "a clean process repeats the golden requests")
            with rollout_step("prove", work.rollout, work.release):
                if work.release.artifact.is_code:
                    said = self._tritons.prove_apart(work.release)
                else:
                    said = self._prover.prove(work.release)
        if not work.gated:
            self._progress.proved(work.rollout, said)
            return
        stage[0] = "gate"
        self._progress.note(work.rollout, "gate", "a clean process judges the gates on the hold-out")
        with rollout_step("gate", work.rollout, work.release):
            judged = self._gatekeeper.judge(work.release)
        self._progress.proved(work.rollout, said, judged)

    def _load(self, work: Work, stage: list[str]) -> None:
        release, triton = work.release, self._tritons.of(work.release)
        self._progress.note(work.rollout, "load", f"{release.tier}'s Triton loads {release}")
        with rollout_step("load", work.rollout, release):
            triton.ensure(release)
            rule = rule_of(release)
            if rule is not None:
                self._progress.note(work.rollout, "load", f"its group's Triton loads the rule of {release}")
                self._tritons.of(rule).ensure(rule)
        stage[0] = "golden"
        self._progress.note(work.rollout, "golden", "golden requests are replayed over the wire")
        with rollout_step("golden", work.rollout, release):
            rows = replay(release, lambda inputs: triton.infer(release, inputs))
        stage[0] = "warm-up"
        with rollout_step("warm-up", work.rollout, release):
            p50_ms = self._warm_up(release)
        self._progress.loaded(work.rollout, f"{rows} golden rows repeated, one row in {p50_ms:.1f} ms")

    def _warm_up(self, release: Release) -> float:
        """Single rows until the caches are warm; their median, in milliseconds."""
        triton, took = self._tritons.of(release), []
        for _ in range(max(1, release.serving.warmup)):
            start = time.perf_counter()
            triton.infer(release, first_row(release.golden))
            took.append((time.perf_counter() - start) * 1000)
        return statistics.median(took)
