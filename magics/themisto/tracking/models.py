"""Runs as themisto sees them: what data went in, which model came out, where it all came from."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import NonNegativeInt

from themisto.types import Model, Sha256

__all__ = ["DataDigest", "Lineage", "Provenance"]


class DataDigest(Model):
    """One data frame, digested whole (see `themisto.tracking.digest`)."""

    name: str
    sha256: Sha256
    rows: NonNegativeInt
    columns: NonNegativeInt


class Provenance(Model):
    """Where a run was made: code, environment, profile and themisto itself."""

    git_commit: str | None = None
    git_dirty: bool | None = None
    lock_sha256: Sha256
    """SHA-256 over the sorted `name==version` lines of every installed distribution."""
    profile: str | None = None
    image: str | None = None
    notebook: str | None = None
    themisto: str


class Lineage(Model):
    """The run that a model came from, for the release that will serve it."""

    run_id: str
    experiment: str = ""
    git_commit: str | None = None
    git_dirty: bool | None = None
    lock_sha256: Sha256 | None = None
    data_sha256: Sha256 | None = None
    data_rows: int | None = None
    metrics: Mapping[str, float] = {}
    parameters: Mapping[str, str] = {}
