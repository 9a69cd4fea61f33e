"""Packages: which packed environments are needed by releases that answer, or that a rollback may bring back."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from themisto.serving.models import Artifact, Release
from themisto.serving.rollout import ACTIVE
from themisto_hub.control.context import Control
from themisto_hub.control.serving.artifacts import ArtifactStore
from themisto_hub.control.serving.fallbacks import rule_of
from themisto_hub.control.serving.records import release_model
from themisto_hub.control.serving.tables import EndpointRow, ReleaseRow, RolloutRow
from themisto_hub.model_server import repository
from themisto_hub.model_server.unused import keep_only

__all__ = ["Packages"]


class Packages:
    """Tells the pool what to keep."""

    def __init__(self, control: Control, artifacts: ArtifactStore) -> None:
        self._control = control
        self._artifacts = artifacts
        self._known: dict[str, list[bytes]] = {}
        """By the artifact's digest: what never changes is read once."""

    def keep(self) -> None:
        """A wish for each environment that is needed; the others' end days later, if it stays so.

        Raises NotFound or Failed for an artifact that cannot be read: then nothing is given up.
        """
        with self._control.db.read() as session:
            needed = {one.sha256: one for release in _needed(session) for one in _code_of(release)}
        self._known = {sha256: self._requirements(artifact) for sha256, artifact in needed.items()}
        keep_only(self._control.settings, [one for found in self._known.values() for one in found])

    def _requirements(self, artifact: Artifact) -> list[bytes]:
        known = self._known.get(artifact.sha256)
        if known is not None:
            return known
        return repository.requirements(artifact.kind, self._artifacts.read(artifact.sha256))


def _needed(session: Session) -> list[Release]:
    """Stable, the way back, candidates, and all that is on its way."""
    at = ReleaseRow.number
    held = or_(at == EndpointRow.stable, at == EndpointRow.previous, at == EndpointRow.candidate)
    answers = select(ReleaseRow).join(EndpointRow, EndpointRow.name == ReleaseRow.endpoint).where(held)
    same = (RolloutRow.endpoint == ReleaseRow.endpoint) & (RolloutRow.release == ReleaseRow.number)
    arrives = select(ReleaseRow).join(RolloutRow, same).where(RolloutRow.state.in_(ACTIVE))
    return [release_model(row) for query in (answers, arrives) for row in session.scalars(query)]


def _code_of(release: Release) -> list[Artifact]:
    rule = rule_of(release)
    return [one.artifact for one in (release, rule) if one is not None and one.artifact.is_code]
