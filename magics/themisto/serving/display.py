"""What serving shows: what a deploy came to, endpoints, differences, callers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from themisto.display import Card, Table
from themisto.serving.deploying import Outcome
from themisto.serving.gates_display import gate_facts, pinned_facts
from themisto.serving.models import Endpoint, EndpointCaller, Release
from themisto.serving.progress import Stages
from themisto.serving.replay import Replayed
from themisto.serving.rollout import Rollout

__all__ = [
    "Deployment",
    "Difference",
    "ReviewLink",
    "callers",
    "endpoint_card",
    "endpoints",
    "releases",
    "replayed",
]


_MAX_CURL = 900


class Deployment(Card):
    """What a deploy came to, and how to call it."""

    def __init__(self, outcome: Outcome, stages: Stages, *, gateway: str) -> None:
        self.outcome = outcome
        self.release = outcome.release
        self.rollout = outcome.rollout
        self.review_url = outcome.rollout.review_url if outcome.rollout else None
        self.stages = {stage.name: stage.seconds or 0.0 for stage in stages}
        facts: dict[str, Any] = {"parity": outcome.parity, "artifact": _artifact(outcome)}
        if self.release is not None and self.rollout is not None:
            facts |= {"model version": self.release.model_version, "run": self.release.run_id}
            facts |= {"state": _state(self.rollout.state, self.rollout.weight_pct, self.rollout.strategy)}
            facts |= {"python": _python(outcome.endpoint), "curl": _curl(outcome, gateway)}
            if self.review_url:
                facts["review"] = self.review_url
            facts |= gate_facts(self.rollout.gates)
        facts["seconds"] = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.stages.items())
        title = str(self.release) if self.release else f"{outcome.endpoint}: dry run, nothing was recorded"
        super().__init__(title, facts, _note(outcome))


def _artifact(outcome: Outcome) -> str:
    artifact = outcome.request.artifact
    return f"{artifact.kind}, {artifact.size_bytes / 1024:,.0f} KiB, sha256 {artifact.sha256[:12]}…"


def _state(state: str, weight_pct: int, strategy: str) -> str:
    how = "A/B" if strategy == "ab" else strategy
    words = {
        "running": f"{how}, {weight_pct} % of the traffic" if weight_pct else f"{how}: a copy of the traffic",
        "done": "stable, all traffic",
        "waiting_approval": "waits for another person's approval",
    }
    return words.get(state, state.replace("_", " "))


def _python(endpoint: str) -> str:
    return f'themisto.endpoint("{endpoint}").predict(df)'


def _curl(outcome: Outcome, gateway: str) -> str:
    """With the first golden row as its body; from a file where that is long."""
    golden, signature = outcome.request.golden, outcome.request.signature
    inputs = [
        {"name": c.name, "datatype": c.dtype, "shape": [1, *c.shape], "data": golden.inputs[c.name][:1]}
        for c in signature.inputs
    ]
    text = json.dumps({"inputs": inputs})
    body = "@request.json" if len(text) > _MAX_CURL or "null" in text else shlex.quote(text)
    url = f"{gateway}/v2/models/{outcome.endpoint}/infer"
    return f'curl -H "Authorization: Bearer $TOKEN" {url} -d {body}'


def _note(outcome: Outcome) -> str:
    notes = []
    if outcome.rows < 2:
        notes.append("The sample has one row: parity says little. Deploy with some hundred.")
    if outcome.rollout is not None and outcome.rollout.state == "waiting_approval":
        notes.append("Another person approves on the review page, after logging in; nothing is loaded before.")
    elif outcome.rollout is not None and outcome.rollout.state == "running":
        asked = outcome.request.rollout
        if (asked.strategy, asked.weight_pct) != (outcome.rollout.strategy, outcome.rollout.weight_pct):
            notes.append("It was on its way already, as shown: roll it back first to deploy it in another way.")
        if outcome.rollout.strategy == "canary" and not outcome.rollout.manual:
            notes.append("It goes on, or back, by itself as its answers show.")
        steps = f"%deploy step {outcome.endpoint}, " if outcome.rollout.manual and outcome.rollout.steps else ""
        notes.append(f"By hand: {steps}%deploy promote {outcome.endpoint}, or %deploy rollback {outcome.endpoint}.")
    return " ".join(notes)


def endpoints(found: Sequence[Endpoint]) -> Table:
    """All endpoints, a line each."""
    rows = [[e.name, e.tier, _number(e, e.stable), _number(e, e.candidate), _weight(e), _where(e)] for e in found]
    return Table(
        ["endpoint", "tier", "stable", "candidate", "candidate's %", "latest rollout"], rows, empty="no endpoints yet"
    )


def endpoint_card(found: Endpoint) -> Card:
    """One endpoint, whole."""
    rollout = found.rollout
    facts: dict[str, Any] = {
        "group": found.group,
        "tier": f"{found.tier} (demo)" if found.demo else found.tier,
        "stable": _number(found, found.stable),
        "candidate": _number(found, found.candidate),
        "traffic": _traffic(found),
        **({"offered to": found.offered_to} if found.offered_to else {}),
    }
    if rollout is not None:
        facts |= {
            "rollout": f"{found.name}@{rollout.release}: {_state(rollout.state, rollout.weight_pct, rollout.strategy)}",
            **_progress(rollout),
            "says": rollout.message or rollout.stage,
            "asked by": rollout.requested_by,
        }
        facts |= gate_facts(rollout.gates)
        decided = [f"{a.decision}d by {a.by}" for a in rollout.approvals]
        facts |= {"approvals": decided} if decided else {}
        facts |= {"review": rollout.review_url} if rollout.review_url else {}
    facts |= pinned_facts(found.pinned)
    note = f"A member of {found.offered_to} takes it over: %deploy accept {found.name}." if found.offered_to else ""
    return Card(found.name, facts, note)


def _progress(rollout: Rollout) -> dict[str, Any]:
    """Where a running rollout stands, since when, and what its analysis says."""
    if rollout.state != "running" or rollout.step_since is None:
        return {}
    here = f"since {rollout.step_since:%Y-%m-%d %H:%M:%S} UTC"
    if rollout.steps:
        path = " → ".join(f"[{s} %]" if n == rollout.step else f"{s} %" for n, s in enumerate(rollout.steps))
        here = f"{path}, {here}{', a person takes the next step' if rollout.manual else ''}"
    verdict = rollout.verdict
    found = {"worse": "worse than stable", "open": "not decided yet", "fine": "as good as stable"}
    words = f"{found[verdict.finding]}: {verdict.words}" if verdict else "no answers looked at yet"
    return {"step": here, "verdict": words}


def _number(endpoint: Endpoint, number: int | None) -> str | None:
    return None if number is None else f"{endpoint.name}@{number}"


def _weight(endpoint: Endpoint) -> str | int | None:
    if endpoint.candidate is None:
        return None
    return "a copy" if endpoint.strategy == "shadow" else endpoint.weight_pct


def _traffic(endpoint: Endpoint) -> str:
    if endpoint.retired:
        return "retired: nothing answers"
    if endpoint.stable is None:
        return "none yet"
    if endpoint.candidate is None:
        return f"all to {endpoint.name}@{endpoint.stable}"
    if endpoint.strategy == "shadow":
        return f"all to {endpoint.name}@{endpoint.stable}, copied to {endpoint.name}@{endpoint.candidate}"
    weight = endpoint.weight_pct
    return f"{100 - weight} % {endpoint.name}@{endpoint.stable}, {weight} % {endpoint.name}@{endpoint.candidate}"


def _where(endpoint: Endpoint) -> str:
    if endpoint.retired:
        return "retired"
    return endpoint.rollout.state.replace("_", " ") if endpoint.rollout else ""


def releases(found: Sequence[Release]) -> Table:
    """Releases, newest first."""
    rows = [
        [str(r), r.author, f"{r.created_at:%Y-%m-%d %H:%M}", r.artifact.kind, r.model_version, r.feature_service]
        for r in found
    ]
    return Table(["release", "author", "at (UTC)", "kind", "model version", "features"], rows, empty="no releases yet")


class Difference:
    """Candidate against stable, section by section; what is the same is left out."""

    _SECTIONS = ("gates", "metrics", "data", "features", "parameters", "environment", "serving", "model")

    def __init__(self, diff: Mapping[str, Any]) -> None:
        name, stable = diff["endpoint"], diff["stable"]
        self.title = f"{name}@{diff['candidate']} against {f'{name}@{stable}' if stable else 'nothing before it'}"
        rows = [
            [section, change["name"], change["before"], change["after"]]
            for section in self._SECTIONS
            for change in diff[section]
            if change["before"] != change["after"]
        ]
        self.changes = Table(["", "what", "stable", "candidate"], rows, title=self.title, empty="the same in all facts")
        self.code = str(diff["code"])

    def __repr__(self) -> str:
        return f"{self.changes!r}\n\ncode\n{self.code or '  the same'}"

    def _repr_html_(self) -> str:
        return f"{self.changes._repr_html_()}<b>code</b><pre>{escape(self.code or 'the same')}</pre>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


def replayed(found: Sequence[Replayed]) -> Table:
    """How each release answered its golden requests."""
    rows = [[r.release, r.rows, "yes" if r.agrees else "NO", f"{r.p50_ms:.1f} ms", r.detail] for r in found]
    return Table(["release", "rows", "agrees", "p50", "detail"], rows)


def callers(found: Sequence[EndpointCaller], days: int) -> Table:
    """Who calls which version."""
    rows = [[c.endpoint, c.caller, c.count, f"{c.last:%Y-%m-%d %H:%M}"] for c in found]
    return Table(["endpoint", "caller", "answers", "last (UTC)"], rows, empty=f"nobody called in the last {days} days")


class ReviewLink(Card):
    """Where another person approves."""

    def __init__(self, endpoint: str, url: str) -> None:
        super().__init__(
            f"{endpoint} waits for approval", {"review": url}, "Another person opens this page, logs in and decides."
        )
        self.url = url

    def _repr_html_(self) -> str:
        link = f'<a href="{escape(self.url)}" target="_blank" rel="noopener">{escape(self.url)}</a>'
        return f'<div class="themisto-card"><b>{escape(self.title)}</b><p>{link}</p><p>{escape(self.note)}</p></div>'
