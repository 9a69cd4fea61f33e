"""Serving at the control plane: its parts put together, one instance a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from functools import cached_property, partial
from typing import TYPE_CHECKING

from sqlalchemy import select

from themisto.errors import Failed, Refused, ThemistoError, Unavailable
from themisto.serving.models import Endpoint, Release, ReleaseRequest
from themisto.serving.names import base_of
from themisto.serving.rollout import Rollout
from themisto_hub.control.gates.holdouts import HoldOuts
from themisto_hub.control.gates.keeper import Gatekeeper
from themisto_hub.control.gates.labels import LabelJudge
from themisto_hub.control.gates.policies import Policies
from themisto_hub.control.gates.retraining import Retrainings
from themisto_hub.control.serving.analyst import Analyst
from themisto_hub.control.serving.approvals import Approvals
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.benches import Benches
from themisto_hub.control.serving.callers import Callers
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.comparisons import Comparisons
from themisto_hub.control.serving.endpoints import Endpoints
from themisto_hub.control.serving.guard import recorded_refusals
from themisto_hub.control.serving.labelled import labelled
from themisto_hub.control.serving.labels import Labels
from themisto_hub.control.serving.mover import Mover
from themisto_hub.control.serving.names import Names
from themisto_hub.control.serving.packages import Packages
from themisto_hub.control.serving.predictions import Predictions
from themisto_hub.control.serving.progress import Progress
from themisto_hub.control.serving.prover import Prover
from themisto_hub.control.serving.records import release_model, release_row
from themisto_hub.control.serving.releases import Releases
from themisto_hub.control.serving.rollouts import Rollouts
from themisto_hub.control.serving.routing import Routing
from themisto_hub.control.serving.steps import Steps
from themisto_hub.control.serving.tables import EndpointRow, ReleaseRow
from themisto_hub.control.serving.tritons import Tritons

if TYPE_CHECKING:
    from themisto_hub.control.auth import Caller
    from themisto_hub.control.context import Control

__all__ = ["Serving"]

_log = logging.getLogger(__name__)


class Serving:
    """Endpoints, releases, rollouts and approvals over one database, the Tritons and the route table."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.changes = Changes(control)
        self.changes.subscribe(self._publish)
        self.artifacts = ArtifactStore(control.settings.folder("control") / "artifacts")
        self.endpoints = Endpoints(control)
        self.holdouts = HoldOuts(control)
        self.names = Names(control, self.changes)
        self.callers = Callers(control)
        self.releases = Releases(control, self.artifacts, self.holdouts)
        self.rollouts = Rollouts(control, self.changes)
        self.approvals = Approvals(control, self.changes)
        self.predictions = Predictions(control)
        self.comparisons = Comparisons(control, self.predictions)
        self.labels = Labels(control)
        self.benches = Benches(control, self.artifacts)
        self.packages = Packages(control, self.artifacts)
        self.progress = Progress(control, self.changes)
        self.analyst = Analyst(control, Steps(control, self.changes))
        self.policies = Policies(control, self.changes)
        self.retrainings = Retrainings(control)
        self.label_judge = LabelJudge(control, self.changes, self.retrainings)

    def _publish(self) -> None:
        self.routing.publish_quietly()

    @cached_property
    def tritons(self) -> Tritons:
        return Tritons(self._control, self.artifacts)

    @cached_property
    def prover(self) -> Prover:
        return Prover(self.artifacts)

    @cached_property
    def mover(self) -> Mover:
        gatekeeper = Gatekeeper(self._control, self.artifacts, self.holdouts, self.prover, self.tritons)
        return Mover(self.progress, self.tritons, self.prover, gatekeeper)

    @cached_property
    def routing(self) -> Routing:
        return Routing(self._control, self.tritons.address)

    async def store(self, caller: Caller, sha256: str, body: AsyncIterator[bytes], declared_bytes: int | None) -> bool:
        """Store an uploaded artifact; False when it was there already. Raises what `ArtifactStore.put` raises."""
        new = await self.artifacts.put(sha256, body, declared_bytes=declared_bytes)
        if new:
            size = self.artifacts.size_bytes(sha256)
            await asyncio.to_thread(self._record, caller, "artifact.store", f"artifact/{sha256}", {"size_bytes": size})
        return new

    def _record(self, caller: Caller, action: str, object: str, after: dict[str, object]) -> None:
        with self._control.db.write() as session:
            self._control.audit.append(
                session,
                actor=caller.name,
                action=action,
                object=object,
                after=after,
                request_id=caller.request_id,
            )

    def release(self, caller: Caller, endpoint: str, request: ReleaseRequest) -> tuple[Release, bool]:
        """Record a release and its rollout, and have the reconciler start at once."""
        release, new = self.releases.create(caller, endpoint, request)
        self.changes.tell(endpoint)
        return release, new

    def endpoint(self, caller: Caller, name: str) -> Endpoint:
        """How it stands, with routes in force that say the same. Raises NotFound."""
        found = self.endpoints.get(caller, name)
        self.routing.put_in_force(found)
        return found

    def page(self, caller: Caller, *, limit: int, after: str | None) -> list[Endpoint]:
        """Endpoints that the caller may see, by name, each as `endpoint` gives it."""
        found = self.endpoints.page(caller, limit=limit, after=after)
        self.routing.put_in_force(*found)
        return found

    def rollout(self, caller: Caller, endpoint: str, rollout_id: str) -> Rollout:
        """Where it stands, with routes in force that say the same. Raises NotFound."""
        found = self.rollouts.get(caller, endpoint, rollout_id)
        self.endpoint(caller, endpoint)
        return found

    def judge_labelled(self, endpoint: str) -> None:
        """Decide the gates again on all labels there are; what stands in the way is logged, and a post tries again."""
        try:
            self.label_judge.posted(endpoint, partial(labelled, self._control))
        except ThemistoError as error:
            _log.warning("the gates of %s cannot be decided on its labels: %s", endpoint, error)
        except Exception:  # noqa: BLE001 - who posted them has her answer: nothing may end her connection now
            _log.exception("the gates of %s cannot be decided on its labels", endpoint)

    def operator_rollback(self, caller: Caller, name: str, *, known: bool, reason: str = "") -> Endpoint:
        """`rollback` by whoever holds the operator's key (`known`). Raises Refused, recorded, for another key."""
        with recorded_refusals(self._control, caller, "rollout.rollback", f"endpoint/{name}"):
            if not known:
                raise Refused("The operator's key is not right.", "Run themisto rollback as the workbench's owner.")
        return self.rollback(caller, name, reason=reason, as_operator=True)

    def rollback(self, caller: Caller, name: str, *, reason: str = "", as_operator: bool = False) -> Endpoint:
        """Bring the earlier release back in one change of the route table.

        It is loaded already; should its Triton have lost it this moment, it is loaded first.
        """
        target = self.rollouts.rollback_target(name)
        if target is not None:
            self._have_loaded(name, target)
        return self.rollouts.rollback(caller, name, reason=reason, as_operator=as_operator)

    def accept(self, caller: Caller, name: str) -> Endpoint:
        """Take over a name. Its code answers in the new owner's model server before it is hers: no request is lost.

        Raises what `Names.accept` raises; Unavailable or Failed where the code does not run there.
        """
        group = self.names.offered(caller, name)
        if group is not None:
            live = [one.release for one in self.progress.live()]
            code = [one for one in live if one.artifact.is_code and base_of(one.endpoint.removeprefix("rule.")) == name]
            self._move(code, name, group)
        return self.names.accept(caller, name)

    def _move(self, code: Collection[Release], name: str, group: str) -> None:
        try:
            self.tritons.move(code, group)
        except ThemistoError as error:
            kind = Unavailable if isinstance(error, Unavailable) else Failed
            raise kind(
                f"The code of '{name}' does not answer in the model server of '{group}': {error.detail}",
                f"Nothing was handed over. Try again: %deploy accept {name}.",
            ) from error

    def retire(self, caller: Caller, name: str, *, force: bool = False) -> Endpoint:
        """Nothing answers under the name any more. Raises Conflict while it has callers, unless forced."""
        if not force:
            self.callers.require_none(caller, name)
            return self.rollouts.retire(caller, name)
        return self.rollouts.retire(caller, name, reason=self.callers.in_words(caller, name))

    def _have_loaded(self, name: str, number: int) -> None:
        with self._control.db.read() as session:
            release = release_model(release_row(session, name, number))
        try:
            self.tritons.of(release).ensure(release)
        except ThemistoError as error:
            _log.warning("%s is not loaded at its rollback; the reconciler goes on trying: %s", release, error)

    def keep_pools(self) -> None:
        """Bring the groups' own Tritons to the desired state. Raises Unavailable."""
        with self._control.db.read() as session:
            groups = [g for g in session.scalars(select(EndpointRow.group_name).distinct()) if g]
        self.tritons.keep_pools(self.progress.live(), groups)

    def sweep_artifacts(self) -> int:
        """Delete uploads that never became a release or a hold-out."""
        with self._control.db.read() as session:
            rules = select(ReleaseRow.content["fallback", "rule", "sha256"].as_string())
            keep = {*session.scalars(select(ReleaseRow.artifact_sha256)), *session.scalars(rules)}
        return self.artifacts.sweep(keep) + self.holdouts.sweep()
