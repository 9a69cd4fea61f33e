"""Releases: immutable records behind an endpoint, made once for each content."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from themisto.errors import Conflict, Invalid, NotFound, Refused
from themisto.serving.contract import Contract, breaks
from themisto.serving.fallback import check_default
from themisto.serving.models import Artifact, Release, ReleaseRequest
from themisto.serving.names import base_of
from themisto.serving.rollout import ACTIVE
from themisto.types import new_ulid
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.gates.holdouts import HoldOuts
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.guard import may_see, recorded_refusals, sees_all
from themisto_hub.control.serving.moves import open_rollout
from themisto_hub.control.serving.names import claimed
from themisto_hub.control.serving.records import (
    active_rollout,
    endpoint_row,
    latest_rollout,
    release_hash,
    release_model,
    release_row,
)
from themisto_hub.control.serving.tables import EndpointRow, ReleaseRow

__all__ = ["Releases"]


class Releases:
    """Records releases and reads them back."""

    def __init__(self, control: Control, artifacts: ArtifactStore, holdouts: HoldOuts) -> None:
        self._control = control
        self._artifacts = artifacts
        self._holdouts = holdouts

    def create(self, caller: Caller, endpoint: str, request: ReleaseRequest) -> tuple[Release, bool]:
        """Record a release and open its rollout; the endpoint is made for the group if it is new.

        The same content gives the same release: `(release, False)`. If its last rollout ended
        without it becoming stable, a new one is opened: posting again tries again.

        Raises Refused (scope, group, tier rules), Invalid (artifact, golden requests), NotFound (a
        version that was not opened), Conflict while another release is on its way, or where this one
        would break who calls the stable one.
        """
        with recorded_refusals(self._control, caller, "release.create", f"endpoint/{endpoint}"):
            caller.require("deploy")
            caller.require_group(request.group)
            self._check(request)
            try:
                with self._control.db.write() as session:
                    return self._record(session, caller, endpoint, request)
            except IntegrityError as error:  # another person made the same name at the same moment
                raise Conflict(f"'{endpoint}' changed at the same moment.", "Run the same cell again.") from error

    def _check(self, request: ReleaseRequest) -> None:
        fallback = request.fallback
        for artifact in [request.artifact, *([fallback.rule] if fallback and fallback.rule else [])]:
            self._check_artifact(artifact)
        _check_golden(request)
        if fallback and fallback.default is not None:
            check_default(fallback.default, request.signature)
        if fallback and fallback.rule and fallback.rule.kind != "python":
            raise Invalid("A rule is a function, not a model.", "Deploy with --rule FUNC.")
        self._holdouts.check(request)
        if request.feature_service is not None:
            if "@" not in request.feature_service:
                raise Invalid(
                    f"The release names the feature service '{request.feature_service}' without a version.",
                    "Name one, for example weather@2: a release never changes what it reads.",
                )
            self._control.features.service_spec(request.feature_service, request.group)

    def _check_artifact(self, artifact: Artifact) -> None:
        if not self._artifacts.exists(artifact.sha256):
            raise NotFound(f"There is no artifact {artifact.sha256[:12]}…", "Upload it first: PUT /artifacts/{sha256}.")
        if self._artifacts.size_bytes(artifact.sha256) != artifact.size_bytes:
            raise Invalid("The artifact's size is not what the release says.", "Upload it again.")

    def _record(self, session: Session, caller: Caller, name: str, request: ReleaseRequest) -> tuple[Release, bool]:
        endpoint = claimed(self._control, session, caller, name, request.group)
        self._settle_tier(session, endpoint, request)
        known = session.scalars(
            select(ReleaseRow).where(ReleaseRow.endpoint == name, ReleaseRow.content_sha256 == request.content_hash)
        ).one_or_none()
        if known is not None and self._on_its_way(session, endpoint, known):
            return release_model(known), False
        busy = active_rollout(session, name)
        if busy is not None:
            raise Conflict(
                f"{name}@{busy.release} is on its way ({busy.state.replace('_', ' ')}).",
                f"First %deploy promote {name} or %deploy rollback {name}.",
            )
        self._require_kept_contract(session, endpoint, request)
        row = known or self._new_release(session, caller, endpoint, request)
        open_rollout(self._control, session, caller, endpoint=endpoint, release=row, request=request.rollout)
        return release_model(row), known is None

    @staticmethod
    def _on_its_way(session: Session, endpoint: EndpointRow, release: ReleaseRow) -> bool:
        if endpoint.stable == release.number and not endpoint.retired:
            return True
        rollout = latest_rollout(session, endpoint.name, release=release.number)
        return rollout is not None and rollout.state in ACTIVE

    def _settle_tier(self, session: Session, endpoint: EndpointRow, request: ReleaseRequest) -> None:
        """The owner's first release says the endpoint's tier, for ever."""
        settings = self._control.settings
        hers = select(func.count()).where(ReleaseRow.endpoint == endpoint.name, _of_owner(endpoint))
        if not session.scalar(hers):
            if request.tier == "prod" and not settings.demo:
                _require_production(isolated=settings.isolation != "none", tls=settings.public.startswith("https://"))
            endpoint.tier, endpoint.demo = request.tier, request.tier == "prod" and settings.demo
        elif endpoint.tier != request.tier:
            raise Conflict(
                f"The endpoint '{endpoint.name}' is a {endpoint.tier} endpoint; an endpoint's tier never changes.",
                f"Deploy with --tier {endpoint.tier}, or under another name.",
            )

    def _require_kept_contract(self, session: Session, endpoint: EndpointRow, request: ReleaseRequest) -> None:
        """Who calls the stable release must be able to call this one, too. Raises Conflict, naming what breaks."""
        if endpoint.stable is None:
            return
        stable = release_model(release_row(session, endpoint.name, endpoint.stable))
        broken = breaks(self._contract(stable), self._contract(request))
        if broken:
            forgot = stable.feature_service is not None and request.feature_service is None
            keep = f"Deploy with --features {stable.feature_service}" if forgot else "Keep the signature"
            raise Conflict(
                f"It would break those who call {stable}: {'; '.join(broken)}.",
                f"{keep}, or open a version beside it: %%deploy {base_of(endpoint.name)} --new-version.",
            )

    def _contract(self, release: ReleaseRequest) -> Contract:
        if release.feature_service is None:
            return Contract(signature=release.signature)
        spec = self._control.features.service_spec(release.feature_service, release.group)
        return Contract(
            signature=release.signature,
            supplied=frozenset(c.name for c in spec.outputs) | frozenset(spec.brought),
            keys=spec.brought,
        )

    def _new_release(
        self, session: Session, caller: Caller, endpoint: EndpointRow, request: ReleaseRequest
    ) -> ReleaseRow:
        query = select(func.max(ReleaseRow.number)).where(ReleaseRow.endpoint == endpoint.name)
        row = ReleaseRow(
            id=new_ulid(),
            endpoint=endpoint.name,
            number=(session.scalar(query) or 0) + 1,
            author=caller.name,
            created_at=self._control.clock(),
            content_sha256=request.content_hash,
            artifact_sha256=request.artifact.sha256,
            content=request.model_dump(mode="json", exclude={"rollout"}),
        )
        row.hash = release_hash(row)
        session.add(row)
        session.flush()
        self._control.audit.append(
            session,
            actor=caller.name,
            action="release.create",
            object=f"release/{endpoint.name}@{row.number}",
            group=endpoint.group_name,
            after={
                "hash": row.hash,
                "artifact": row.artifact_sha256,
                "tier": endpoint.tier,
                "run_id": request.run_id,
                "model_version": request.model_version,
                "data_sha256": request.data_sha256,
                "feature_service": request.feature_service,
                "git_commit": request.git_commit,
                "lock_sha256": request.lock_sha256,
                "quality": request.quality.model_dump(mode="json") if request.quality else None,
            },
            request_id=caller.request_id,
        )
        return row

    def get(self, caller: Caller, endpoint: str, number: int) -> Release:
        """Raises NotFound."""
        with self._control.db.read() as session:
            row = endpoint_row(session, endpoint)
            _require_sight(caller, row)
            found = release_row(session, endpoint, number)
            if found.created_at < row.created_at and not sees_all(caller):
                raise NotFound(f"{endpoint}@{number} is of a former owner.", f"See yours: %deploy releases {endpoint}.")
            return release_model(found)

    def page(self, caller: Caller, endpoint: str, *, limit: int = 20, after: int | None = None) -> list[Release]:
        """Newest first; `after` is the number that the page before ended with."""
        with self._control.db.read() as session:
            owned = endpoint_row(session, endpoint)
            _require_sight(caller, owned)
            query = select(ReleaseRow).where(ReleaseRow.endpoint == endpoint)
            if not sees_all(caller):
                query = query.where(_of_owner(owned))
            if after is not None:
                query = query.where(ReleaseRow.number < after)
            rows = session.scalars(query.order_by(ReleaseRow.number.desc()).limit(limit))
            return [release_model(row) for row in rows]


def _of_owner(endpoint: EndpointRow) -> ColumnElement[bool]:
    """Releases since the present owner claimed the name."""
    return ReleaseRow.created_at >= endpoint.created_at


def _require_sight(caller: Caller, endpoint: EndpointRow) -> None:
    if not may_see(caller, endpoint.group_name):
        raise NotFound(f"There is no endpoint '{endpoint.name}'.", "See the names: %deploy status.")


def _check_golden(request: ReleaseRequest) -> None:
    """Golden requests must have every column of the signature, all of the same length."""
    golden, signature = request.golden, request.signature
    lengths: set[int] = set()
    for columns, given, side in (
        (signature.inputs, golden.inputs, "inputs"),
        (signature.outputs, golden.outputs, "outputs"),
    ):
        names = {column.name for column in columns}
        if names != set(given):
            wrong = ", ".join(sorted(names ^ set(given))[:5])
            raise Invalid(f"The golden {side} do not match the signature: {wrong}.", "Deploy again from the cell.")
        lengths |= {len(values) for values in given.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise Invalid("The golden requests have columns of different lengths, or no rows.", "Deploy with a sample.")


def _require_production(*, isolated: bool, tls: bool) -> None:
    if not isolated:
        raise Refused(
            "A prod endpoint is refused: this workbench runs without isolation, so any process could touch it.",
            "Run the workbench as root (own uid for each user), or use --tier dev.",
        )
    if not tls:
        raise Refused(
            "A prod endpoint is refused: the public address has no TLS.",
            "Set THEMISTO_PUBLIC_URL to an https:// address, or use --tier dev.",
        )
