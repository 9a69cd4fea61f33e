"""Deploying: the way from a model in a cell to a release that answers, stage by stage."""

from __future__ import annotations

import hashlib
import math
import time
from typing import TYPE_CHECKING, Any

from themisto.errors import Conflict, Failed, Invalid, Refused, ThemistoError, Unavailable
from themisto.serving.candidate import Candidate, require_sample
from themisto.serving.chain import Chain
from themisto.serving.contract import Contract, breaks
from themisto.serving.cost import native_cost
from themisto.serving.exporter import exporter_for
from themisto.serving.fallback import check_default, fallback_of, rule_export
from themisto.serving.gating import SAME, Gates, Prepared
from themisto.serving.lookup import find_endpoint, release_of
from themisto.serving.models import Release, ReleaseRequest
from themisto.serving.names import base_of
from themisto.serving.order import Features, Order
from themisto.serving.personal import check_personal
from themisto.serving.progress import Stages
from themisto.serving.registering import register
from themisto.serving.rollout import ACTIVE, Rollout
from themisto.serving.versions import same_content, version_for
from themisto.spans import span
from themisto.types import Model

if TYPE_CHECKING:
    from themisto.client import ControlPlane
    from themisto.tracking.service import Tracking

__all__ = ["Deploying", "Outcome"]

_ARRIVED = ("running", "done", "waiting_approval")
_WAIT_S = 180.0
_POLL_S = (0.05, 0.5)
_AGAIN = "Run the same cell again: it goes on from there."


class Outcome(Model):
    """Where a deploy has come to. `release` is None after a dry run."""

    endpoint: str
    request: ReleaseRequest
    parity: str
    rows: int
    release: Release | None = None
    rollout: Rollout | None = None


class Deploying:
    """One deploy. Every stage can be repeated: the same content finds what the last try left."""

    def __init__(self, control: ControlPlane, tracking: Tracking, stages: Stages) -> None:
        self._control = control
        self._tracking = tracking
        self._stages = stages
        self._gates = Gates(control)
        self._recorded: Release | None = None

    def run(self, order: Order, model: Any, sample: Any) -> Outcome:
        """Raises what each stage raises; an interrupt becomes Failed, saying what is there and how to go on."""
        try:
            attributes = {"themisto.endpoint": order.endpoint, "themisto.tier": order.options.tier}
            with span("themisto.deploy", attributes):
                return self._run(order, model, sample)
        except KeyboardInterrupt:
            raise self._interrupted(order) from None

    def _run(self, order: Order, model: Any, sample: Any) -> Outcome:
        options = order.options
        exporter = exporter_for(model, native=options.native)
        require_sample(sample)
        lineage = self._tracking.lineage(model.model if isinstance(model, Chain) else model)
        with self._stages.stage("export") as stage:
            candidate = Candidate.exported(exporter, model, sample)
            stage.note = f"{candidate.export.kind}, {len(candidate.export.data) / 1024:,.0f} KiB"
            if candidate.warning:
                stage.note += f"; {candidate.warning}"
        looked_up = _looked_up(order.features, candidate)
        check_personal(order.personal, candidate.export.signature, looked_up)
        if order.default is not None:
            check_default(order.default, candidate.export.signature)
        ruled = None if options.rule is None else rule_export(options.rule, candidate)
        with self._stages.stage("parity") as stage:
            parity, golden = candidate.prove(options.tolerance)
            stage.note = str(parity)
        if options.native:
            with self._stages.stage("cost") as stage:
                stage.note = native_cost(candidate, exporter, model)
        gated = self._gated(order, candidate, lineage)
        request = ReleaseRequest(
            group=order.group,
            tier=options.tier,
            artifact=candidate.export.artifact,
            signature=candidate.export.signature,
            serving=order.serving,
            golden=golden,
            feature_service=order.features.ref if order.features else None,
            fallback=fallback_of(order.default, ruled, options.fallback_after_ms),
            personal=order.personal,
            profile=options.profile,
            cell=options.cell,
            slo=order.slo,
            quality=gated.quality if gated else None,
            rollout=order.rollout,
            **_origin(lineage),
        )
        if options.new_version:
            endpoint = version_for(self._control, order.endpoint, request, dry_run=options.dry_run)
            order = order.model_copy(update={"endpoint": endpoint})
        self._require_free(order, request)
        if options.dry_run:
            return Outcome(endpoint=order.endpoint, request=request, parity=str(parity), rows=parity.rows)
        with self._stages.stage("log") as stage:
            self._tracking.connection.check()
            name = base_of(order.endpoint)  # MLflow knows no dots: all versions are of one registered model
            version, known = register(self._tracking, model, candidate, request, name=name, lineage=lineage)
            stage.note = f"{version}{', logged before' if known else ''}"
        request = request.model_copy(update={"model_version": version})
        with self._stages.stage("release") as stage:
            if ruled is not None:
                self._upload(ruled.artifact.sha256, ruled.data)
            if gated is not None:
                self._gates.upload(gated)
            release = self._recorded = self._record(order.endpoint, request, candidate.export.data)
            stage.note = str(release)
        rollout = self._follow(release)
        return Outcome(
            endpoint=order.endpoint,
            request=request,
            parity=str(parity),
            rows=parity.rows,
            release=release,
            rollout=rollout,
        )

    def _gated(self, order: Order, candidate: Candidate, lineage: Any) -> Prepared | None:
        """The gates and their hold-out, checked against the model; nothing is stored yet."""
        if order.gates is None:
            return None
        with self._stages.stage("gates") as stage:
            trained_on = lineage.data_sha256 if lineage is not None else None
            found = find_endpoint(self._control, order.endpoint)
            rows = SAME if order.options.holdout is None else order.options.holdout
            prepared = self._gates.prepare(found, order.gates, rows, candidate, trained_on)
            stage.note = f"{'; '.join(prepared.quality.gates)}, on {prepared.quality.rows:,} rows"
        return prepared

    def _require_free(self, order: Order, request: ReleaseRequest) -> None:
        """Say now, before anything is stored, what the control plane would refuse later."""
        found = find_endpoint(self._control, order.endpoint)
        if found is None:
            return
        if found.tier != order.options.tier and found.rollout is not None:  # a claimed name has no tier yet
            raise Conflict(
                f"'{order.endpoint}' is a {found.tier} endpoint; an endpoint's tier never changes.",
                f"Deploy with --tier {found.tier}, or under another name.",
            )
        if found.stable is not None:
            self._require_kept_contract(order, found.stable, request)
        if found.rollout is None or found.rollout.state not in ACTIVE:
            return
        if not same_content(release_of(self._control, order.endpoint, found.rollout.release), request):
            raise Conflict(
                f"{order.endpoint}@{found.rollout.release} is on its way ({found.rollout.state.replace('_', ' ')}).",
                f"First %deploy promote {order.endpoint} or %deploy rollback {order.endpoint}.",
            )

    def _require_kept_contract(self, order: Order, stable: int, request: ReleaseRequest) -> None:
        now = release_of(self._control, order.endpoint, stable)
        if now.feature_service is not None:  # then the keys count too, which the control plane knows
            return
        broken = breaks(Contract(signature=now.signature), Contract(signature=request.signature))
        if broken:
            raise Conflict(
                f"It would break those who call {now}: {'; '.join(broken)}.",
                f"Keep the signature, or open a version beside it: %%deploy {base_of(order.endpoint)} --new-version.",
            )

    def _record(self, endpoint: str, request: ReleaseRequest, data: bytes) -> Release:
        """Upload the artifact unless it is there, then post the release."""
        self._upload(request.artifact.sha256, data)
        before = find_endpoint(self._control, endpoint)
        ended = before.rollout.id if before and before.rollout and before.rollout.state not in ACTIVE else ""
        # The same request sent twice is one; the same cell after its rollout has ended is a new try.
        key = hashlib.sha256(f"{request.content_hash} {request.rollout.model_dump_json()} {ended}".encode()).hexdigest()
        answer = self._control.post(
            f"endpoints/{endpoint}/releases", request.model_dump(mode="json"), idempotency_key=key
        )
        return Release.model_validate(answer)

    def _upload(self, sha256: str, data: bytes) -> None:
        try:
            self._control.request("HEAD", f"artifacts/{sha256}")
        except ThemistoError as error:
            if isinstance(error, Unavailable | Refused):
                raise
            self._control.request("PUT", f"artifacts/{sha256}", content=data, timeout_s=_WAIT_S)

    def _follow(self, release: Release) -> Rollout:
        """Watch the rollout until its weight is live, someone must approve, or it failed."""
        with self._stages.stage("load") as stage:
            rollout = self._rollout_of(release)
            pause, until = _POLL_S[0], time.monotonic() + _WAIT_S
            while rollout.state == "loading":
                if time.monotonic() > until:
                    raise Unavailable(f"{release} is still loading ({rollout.stage}: {rollout.message}).", _AGAIN)
                self._stages.note(rollout.message or rollout.stage)
                time.sleep(pause)
                pause = min(pause * 1.3, _POLL_S[1])
                path = f"endpoints/{release.endpoint}/rollouts/{rollout.id}"
                rollout = Rollout.model_validate(self._control.get(path))
            if rollout.state not in _ARRIVED:
                word = rollout.state.replace("_", " ")
                raise Failed(
                    f"{release} {word}: {rollout.message.rstrip('.')}.",
                    "What answered before goes on answering. Mend the cause, then run the cell again.",
                )
            stage.note = rollout.message
        return rollout

    def _rollout_of(self, release: Release) -> Rollout:
        found = find_endpoint(self._control, release.endpoint)
        if found is None or found.rollout is None:
            raise Failed(f"{release} has no rollout.", f"See %deploy status {release.endpoint}.")
        if found.rollout.release == release.number:
            return found.rollout
        if found.stable == release.number:  # the same content is what answers already, and another came after it
            return found.rollout.model_copy(update={"state": "done", "release": release.number, "message": "is stable"})
        raise Conflict(
            f"{release.endpoint}@{found.rollout.release} was deployed meanwhile.",
            f"See %deploy status {release.endpoint}.",
        )

    def _interrupted(self, order: Order) -> Failed:
        stage = self._stages.current or "the start"
        if self._recorded is not None:
            return Failed(
                f"Interrupted while {self._recorded} was loading; it is recorded and goes on by itself.",
                f"Run the same cell again to watch it, or %deploy rollback {order.endpoint} to stop it.",
            )
        return Failed(
            f"Interrupted at the stage '{stage}'; no release was recorded and nothing has changed for callers.",
            "Run the same cell again.",
        )


def _looked_up(features: Features | None, candidate: Candidate) -> tuple[str, ...]:
    """What the gateway reads of the feature service, keys included. Raises Invalid where the model takes none of it."""
    if features is None:
        return ()
    if not {c.name for c in candidate.export.signature.inputs} & set(features.columns):
        raise Invalid(
            f"The model takes none of {features.ref}'s features: {', '.join(features.columns[:10])}.",
            "Fit it on what %%features gives for that service, or leave --features out.",
        )
    return (*features.columns, *features.keys)


def _origin(lineage: Any) -> dict[str, Any]:
    """What a release records about code, data and environment; without a run, what this process knows."""
    from themisto.tracking.provenance import provenance

    here = provenance()
    origin: dict[str, Any] = {"git_commit": here.git_commit, "image": here.image, "lock_sha256": here.lock_sha256}
    if lineage is None:
        return origin
    return {
        "git_commit": lineage.git_commit or here.git_commit,
        "image": here.image,
        "lock_sha256": lineage.lock_sha256 or here.lock_sha256,
        "run_id": lineage.run_id,
        "data_sha256": lineage.data_sha256,
        "data_rows": lineage.data_rows,
        "metrics": {name: value for name, value in lineage.metrics.items() if math.isfinite(value)},
        "parameters": {k: str(v) for k, v in lineage.parameters.items()},
    }
