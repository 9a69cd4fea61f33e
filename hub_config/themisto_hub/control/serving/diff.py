"""Diff: how a candidate differs from stable, as its author and its approver both see it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from themisto.serving.models import Column, Release
from themisto.types import Model, Sha256

__all__ = ["Change", "Diff", "difference"]


class Change(Model):
    """One named value before and after; None where it is absent."""

    name: str
    before: str | None
    after: str | None

    @property
    def changed(self) -> bool:
        return self.before != self.after


class Diff(Model):
    """Candidate against stable. Every list holds what is the same, too: an approver sees it all."""

    endpoint: str
    candidate: int
    candidate_hash: Sha256
    candidate_author: str
    stable: int | None
    gates: tuple[Change, ...]
    metrics: tuple[Change, ...]
    data: tuple[Change, ...]
    features: tuple[Change, ...]
    parameters: tuple[Change, ...]
    environment: tuple[Change, ...]
    serving: tuple[Change, ...]
    model: tuple[Change, ...]
    code: str
    """Unified diff of the deployed cells; the whole cell where there is no stable release."""


def difference(candidate: Release, stable: Release | None, gates: tuple[Change, ...] = ()) -> Diff:
    """All that an approver weighs; `gates` is what `gate_changes` found."""
    old, new = stable, candidate
    return Diff(
        endpoint=new.endpoint,
        candidate=new.number,
        candidate_hash=new.hash,
        candidate_author=new.author,
        stable=old.number if old else None,
        gates=gates,
        metrics=_changes(old.metrics if old else {}, new.metrics),
        data=_named(old, new, {"data digest": "data_sha256", "rows": "data_rows"}),
        features=_changes(_features(old), _features(new)),
        parameters=_changes(old.parameters if old else {}, new.parameters),
        environment=_named(
            old, new, {"lock": "lock_sha256", "image": "image", "git commit": "git_commit", "profile": "profile"}
        ),
        serving=_changes(_serving(old), _serving(new)),
        model=_changes(_model(old), _model(new)),
        code=_code(old, new),
    )


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    names = sorted({*before, *after})
    return tuple(Change(name=n, before=_text(before.get(n)), after=_text(after.get(n))) for n in names)


def _named(old: Release | None, new: Release, fields: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(name=name, before=_text(getattr(old, field, None)), after=_text(getattr(new, field)))
        for name, field in fields.items()
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _features(release: Release | None) -> dict[str, Any]:
    if release is None:
        return {}
    columns = {f"input {c.name}": _type(c) for c in release.signature.inputs}
    return {"feature service": release.feature_service, **columns}


def _serving(release: Release | None) -> dict[str, Any]:
    if release is None:
        return {}
    declared: dict[str, Any] = {f"the log keeps of {name}": way for name, way in sorted(release.personal.items())}
    if release.fallback is not None:
        declared["rule"] = release.fallback.rule.sha256 if release.fallback.rule else None
        declared["default answer"] = json.dumps(release.fallback.default) if release.fallback.default else None
        declared["fallback after"] = f"{release.fallback.after_ms} ms"
    return {**release.serving.model_dump(), **release.slo, **declared}


def _model(release: Release | None) -> dict[str, Any]:
    if release is None:
        return {}
    outputs = {f"output {c.name}": _type(c) for c in release.signature.outputs}
    return {
        "kind": release.artifact.kind,
        "artifact": release.artifact.sha256,
        "size": f"{release.artifact.size_bytes:,} bytes",
        "registry": release.model_version,
        "run": release.run_id,
        "author": release.author,
        **outputs,
    }


def _code(old: Release | None, new: Release) -> str:
    if old is None:
        return new.cell
    lines = difflib.unified_diff(old.cell.splitlines(), new.cell.splitlines(), str(old), str(new), lineterm="", n=3)
    return "\n".join(lines)


def _type(column: Column) -> str:
    """`FP64[1]`, `INT64[1] datetime UTC`: what callers send or get."""
    said = [f"{column.dtype}{list(column.shape)}", column.logical, column.zone]
    return " ".join(word for word in said if word)
