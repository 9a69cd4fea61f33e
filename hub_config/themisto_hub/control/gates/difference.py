"""Difference: what candidate and stable came to at the gates, and what was pinned, as an approver sees it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.serving.gates import GateResult, Quality
from themisto.serving.models import Release
from themisto_hub.control.gates.records import policy_at, results_of
from themisto_hub.control.gates.tables import PolicyRow
from themisto_hub.control.serving.diff import Change
from themisto_hub.control.serving.tables import RolloutRow

__all__ = ["gate_changes"]

_SHOWN_SLICES = 20


def gate_changes(session: Session, candidate: Release, stable: Release | None) -> tuple[Change, ...]:
    """Gates, hold-outs, slices, and what was pinned when stable became stable against what is pinned now."""
    before = _facts(session, stable) if stable is not None else {}
    after = _facts(session, candidate)
    was = _policy_of(session, stable) if stable is not None else None
    now = policy_at(session, candidate.endpoint)
    before |= _pinned(_quality(was))
    after |= _pinned(_quality(now))
    for name in before.keys() - after.keys():
        if name.startswith("pinned") and now is not None:
            after[name] = f"no more: changed by {now.by}, {now.at:%Y-%m-%d %H:%M} UTC"
    names = list(dict.fromkeys([*after, *before]))
    return tuple(Change(name=name, before=before.get(name), after=after.get(name)) for name in names)


def _facts(session: Session, release: Release) -> dict[str, str | None]:
    facts: dict[str, str | None] = {}
    for one in results_of(session, release.endpoint, release.number):
        kind = "pinned, " if one.pinned else ""
        name = f"{one.gate} ({kind}{'hold-out' if one.source == 'holdout' else 'labels posted later'})"
        facts[name] = f"{_word(one)}: {one.says}"
        for part in one.slices[:_SHOWN_SLICES]:
            value = part.note if part.metric is None else f"{part.metric:.6g}"
            facts[f"{name}, {part.column}={part.value}"] = f"{value} ({part.rows:,} rows)"
    if release.quality is not None:
        facts["hold-out"] = _holdout(release.quality)
        facts |= dict.fromkeys((f"gate {gate}" for gate in release.quality.gates), "asked")
    return facts


def _word(one: GateResult) -> str:
    return {True: "passed", False: "NOT passed", None: "not judged"}[one.passed]


def _holdout(quality: Quality) -> str:
    by = f", by {', '.join(quality.by)}" if quality.by else ""
    return f"{quality.holdout_sha256[:12]}…, {quality.rows:,} rows, label {quality.label}{by}"


def _policy_of(session: Session, stable: Release) -> PolicyRow | None:
    """What was pinned when the release became stable."""
    query = select(RolloutRow.done_at).where(
        RolloutRow.endpoint == stable.endpoint, RolloutRow.release == stable.number, RolloutRow.done_at.is_not(None)
    )
    at = session.scalars(query.order_by(RolloutRow.done_at.desc()).limit(1)).one_or_none()
    return policy_at(session, stable.endpoint, at) if at is not None else None


def _quality(row: PolicyRow | None) -> Quality | None:
    return Quality.model_validate(row.quality) if row is not None and row.quality is not None else None


def _pinned(quality: Quality | None) -> dict[str, str | None]:
    if quality is None:
        return {}
    gates: dict[str, str | None] = {f"pinned {gate}": "every release must pass it" for gate in quality.gates}
    return gates | {"pinned hold-out": _holdout(quality)}
