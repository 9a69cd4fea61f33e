"""Event: what others are told, made from the audit chain: one mapping from actions to kinds, and no other source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from themisto.types import Json, Model, Ulid, UtcTime, new_ulid
from themisto_hub.control.audit import AuditRow

__all__ = ["KINDS", "Event", "event_of"]

KINDS: Mapping[str, str] = {
    "rollout.stepped": "took a step",
    "rollout.breached": "broke its limits and went back",
    "rollout.held": "has too little to go by and asks a person",
    "gate.breached": "misses a gate, by labels that were posted",
    "rollout.waiting": "waits for approval",
    "rollout.refused": "was refused",
    "rollout.failed": "failed",
    "rollout.rolled_back": "was rolled back",
    "rollout.promoted": "is stable",
    "job.failed": "failed",
    "schedule.paused": "is paused",
}
"""Each kind and what it says of its subject."""

_OF_ACTION: Mapping[str, str] = {
    "rollout.running": "rollout.stepped",  # its first share of the traffic
    "rollout.step": "rollout.stepped",
    "rollout.breach": "rollout.breached",
    "rollout.hold": "rollout.held",
    "gate.breached": "gate.breached",
    "rollout.proved": "rollout.waiting",
    "rollout.refuse": "rollout.refused",
    "rollout.failed": "rollout.failed",
    "rollout.rollback": "rollout.rolled_back",
    "rollout.done": "rollout.promoted",
    "rollout.promote": "rollout.promoted",
    "job.end": "job.failed",
    "schedule.pause": "schedule.paused",
}
_STATES: Mapping[str, frozenset[str]] = {
    "rollout.proved": frozenset({"waiting_approval"}),
    "job.end": frozenset({"failed", "lost"}),
}
"""Actions that are an event only where they end in one of these states."""

_DETAILS = ("release", "rollout", "stable", "candidate", "weight_pct", "strategy", "schedule", "state", "attempt")
_MAX_TEXT = 1000


class Event(Model):
    """One thing that happened. `id` stays the same however often it is sent."""

    id: Ulid
    kind: str
    at: UtcTime
    group: str | None
    """The group it is about; None where it is about none."""
    actor: str
    subject: str
    """A release (`credit@7`), a schedule or an endpoint."""
    message: str
    url: str | None = None
    """The review page, where somebody must decide."""
    details: Mapping[str, Json] = {}

    @property
    def title(self) -> str:
        return f"{self.subject} {KINDS[self.kind]}"

    @property
    def text(self) -> str:
        """For mail and chat: a few plain lines."""
        lines = [self.message, f"group {self.group}" if self.group else "", f"by {self.actor}", self.url or ""]
        return "\n".join(line for line in lines if line)


def event_of(row: AuditRow, review_url: str) -> Event | None:
    """The event that a link of the chain is; None for what nobody is told: reads, refusals, small steps."""
    kind = _OF_ACTION.get(row.action)
    after: dict[str, Any] = row.after if isinstance(row.after, dict) else {}
    states = _STATES.get(row.action)
    if kind is None or row.outcome != "done" or (states is not None and after.get("state") not in states):
        return None
    what, _, name = row.object.partition("/")
    return Event(
        id=new_ulid(),
        kind=kind,
        at=row.at,
        group=row.group_name,
        actor=row.actor,
        subject=_subject(what, name, after),
        message=str(after.get("message") or after.get("reason") or "")[:_MAX_TEXT],
        url=f"{review_url}/approve/{name}" if kind == "rollout.waiting" else None,
        details={key: after[key] for key in _DETAILS if key in after},
    )


def _subject(what: str, name: str, after: Mapping[str, Any]) -> str:
    release = after.get("release")
    if what == "job":
        return f"a job of {after.get('schedule', name)}"
    if isinstance(release, int) and what == "endpoint":
        return f"{name}@{release}"
    return release if isinstance(release, str) else name
