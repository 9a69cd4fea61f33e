"""Clusters at the control plane: read what is stored, render it, say so in the audit chain."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import Conflict, Invalid, Refused
from themisto.serving.rollout import Approval
from themisto_hub.cluster.capabilities import Feature, Target
from themisto_hub.cluster.gateway import address
from themisto_hub.cluster.plan import Placed, Plan
from themisto_hub.cluster.render import Rendering, render
from themisto_hub.cluster.servers import fetch_for, profile_of
from themisto_hub.cluster.settings import ClusterSettings, cluster_settings
from themisto_hub.cluster.store import Bucket, artifact_path, repository_path
from themisto_hub.control.serving.guard import recorded_refusals
from themisto_hub.control.serving.records import endpoint_row, release_hash, release_model, release_row
from themisto_hub.control.serving.routing import Routing
from themisto_hub.control.serving.tables import ApprovalRow, EndpointRow, RolloutRow
from themisto_hub.profiles import load_profiles

if TYPE_CHECKING:
    from themisto_hub.control.auth import Caller
    from themisto_hub.control.context import Control

__all__ = ["Clusters"]


class Clusters:
    """What an operator asks of the control plane for a cluster."""

    def __init__(self, control: Control, settings: ClusterSettings | None = None) -> None:
        self._control = control
        self._settings = settings or cluster_settings(control.settings.otel_exporter_otlp_endpoint)
        self._artifacts = control.serving.artifacts

    def render(
        self,
        caller: Caller,
        name: str,
        target: Target,
        *,
        without: Collection[Feature] = (),
        publish: bool = False,
    ) -> Rendering:
        """The endpoint as it is now, for a target; `publish` puts its models into the bucket too.

        Raises Refused, recorded, for a prod release that nobody approved; NotFound, Conflict for an
        endpoint without a release, Invalid for what the target cannot honour, Unavailable for a
        bucket that does not answer.
        """
        with recorded_refusals(self._control, caller, "endpoint.render", f"endpoint/{name}"):
            plan, neighbours = self._plans(name, target)
            profiles = {profile.name: profile for profile in load_profiles(self._control.settings.profiles_dir)}
            table = Routing(self._control, lambda release: address(release, self._settings)).table()
            if self._plans(name, target) != (plan, neighbours):
                raise Conflict(f"The traffic of '{name}' or of another endpoint moved meanwhile.", "Render it again.")
            made = render(plan, target, profiles, self._settings, table=table, neighbours=neighbours, without=without)
        published = self._publish([plan, *neighbours], target) if publish else 0
        with self._control.db.write() as session:
            self._control.audit.append(
                session,
                actor=caller.name,
                action="endpoint.render",
                object=f"endpoint/{name}",
                group=plan.group,
                after={
                    "target": target,
                    "releases": list(made.releases),
                    "without": sorted(without),
                    "sha256": made.sha256,
                    "published": published,
                },
                request_id=caller.request_id,
            )
        return made

    def _plans(self, name: str, target: Target) -> tuple[Plan, list[Plan]]:
        """The endpoint's plan; on kubernetes, where they share, those of all others that answer too.

        Raises NotFound, Conflict for an endpoint without a release, Refused for a release that was changed.
        """
        with self._control.db.read() as session:
            row = endpoint_row(session, name)
            if row.retired or row.stable is None:
                raise Conflict(f"'{name}' has no release that answers.", f"See how far it is: %deploy status {name}.")
            query = select(EndpointRow).where(
                EndpointRow.retired.is_(False), EndpointRow.stable.is_not(None), EndpointRow.name != name
            )
            others = session.scalars(query.order_by(EndpointRow.name)) if target == "kubernetes" else ()
            return _plan(session, row), [_plan(session, one) for one in others]

    def _publish(self, plans: Collection[Plan], target: Target) -> int:
        """Put the models where the cluster fetches them from; how many files were new."""
        if not self._settings.in_bucket:
            raise Invalid(
                "Models are fetched from the control plane: there is no bucket to put them into.",
                "Leave --publish out, or set THEMISTO_CLUSTER_STORE=s3://bucket/prefix.",
            )
        bucket, new = Bucket(self._settings.store), 0
        profiles = {profile.name: profile for profile in load_profiles(self._control.settings.profiles_dir)}
        for release in (placed.release for plan in plans for placed in plan.placed):
            data = self._artifacts.read(release.artifact.sha256)
            files = {artifact_path(release.artifact.sha256): data}
            if target == "kserve":
                fetch = fetch_for(release, profile_of(release, profiles, self._settings), own=True)
                folder = repository_path(release.hash)
                files = {f"{folder}/{path}": content for path, content in fetch.files(data).items()}
            new += bucket.put(files)
        return new


def _plan(session: Session, row: EndpointRow) -> Plan:
    assert row.stable is not None
    shadow = row.strategy == "shadow"
    share = 0 if shadow or row.candidate is None else row.weight_pct
    kept = row.previous if row.previous not in (row.stable, row.candidate) else None
    return Plan.model_validate(
        {
            "endpoint": row.name,
            "group": row.group_name,
            "tier": row.tier,
            "strategy": row.strategy,
            "stable": _placed(session, row.name, row.stable, weight_pct=100 - share),
            "candidate": _placed(session, row.name, row.candidate, weight_pct=share, shadow=shadow)
            if row.candidate is not None
            else None,
            "previous": _placed(session, row.name, kept) if kept is not None else None,
        }
    )


def _placed(session: Session, endpoint: str, number: int, *, weight_pct: int = 0, shadow: bool = False) -> Placed:
    row = release_row(session, endpoint, number)
    if not hmac.compare_digest(row.hash, release_hash(row)):
        raise Refused(
            f"{endpoint}@{number} is not what was recorded: its hash does not fit.", "See themisto doctor --audit."
        )
    return Placed(
        release=release_model(row),
        weight_pct=weight_pct,
        shadow=shadow,
        approval=_approval(session, endpoint, number),
    )


def _approval(session: Session, endpoint: str, number: int) -> Approval | None:
    """The newest word by which the release may carry traffic."""
    query = (
        select(ApprovalRow)
        .join(RolloutRow, RolloutRow.id == ApprovalRow.rollout)
        .where(RolloutRow.endpoint == endpoint, RolloutRow.release == number, ApprovalRow.decision == "approve")
        .order_by(ApprovalRow.at.desc(), ApprovalRow.id.desc())
        .limit(1)
    )
    row = session.scalars(query).one_or_none()
    if row is None:
        return None
    return Approval.model_validate(
        {
            "by": row.by,
            "decision": row.decision,
            "release_hash": row.release_hash,
            "logged_in_at": row.logged_in_at,
            "at": row.at,
        }
    )
