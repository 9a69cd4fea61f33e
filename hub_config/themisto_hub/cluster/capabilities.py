"""Capabilities: what each target honours of what an endpoint asks for; what it does not is refused, never dropped.

`TABLE` is the one place: `check` refuses by it, and the table in docs/cluster-serving.md is written from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, get_args

from themisto.errors import Invalid
from themisto.types import Model
from themisto_hub.cluster.plan import Plan

__all__ = ["TABLE", "TARGETS", "WAIVABLE", "Capability", "Feature", "Target", "check", "markdown", "needs"]

Target = Literal["kubernetes", "kserve", "istio"]
Feature = Literal[
    "canary",
    "replace",
    "ab",
    "sticky",
    "shadow",
    "rollback",
    "entities",
    "code",
    "chain",
    "prediction-log",
    "tokens",
    "breaker",
    "fallback",
    "declared",
    "deadline",
    "digest",
    "scaling",
    "release-named",
]
Honours = Literal["yes", "differs", "no"]

TARGETS: tuple[Target, ...] = get_args(Target)
WAIVABLE: frozenset[Feature] = frozenset({"prediction-log", "tokens", "breaker", "fallback"})
"""What the gateway does for every endpoint unasked: an operator may say that the cluster goes without."""


class Capability(Model):
    """One feature on one target, in words that a person can act on."""

    honours: Honours
    how: str


def _yes(how: str) -> Capability:
    return Capability(honours="yes", how=how)


def _differs(how: str) -> Capability:
    return Capability(honours="differs", how=how)


def _no(how: str) -> Capability:
    return Capability(honours="no", how=how)


_NO_TRANSFORMER = _no("no transformer looks features up: callers send all inputs")
_NO_LOG = _no("bodies are not logged")
_NO_FALLBACK = _no("the caller gets the error")

TABLE: Mapping[Feature, tuple[str, Mapping[Target, Capability]]] = {
    "canary": (
        "canary",
        {
            "kubernetes": _yes("the gateway's weights"),
            "kserve": _differs("canaryTrafficPercent, against the revision that was applied before; one at a time"),
            "istio": _yes("weights of the VirtualService"),
        },
    ),
    "replace": (
        "replace at once (blue-green)",
        {
            "kubernetes": _yes("one change of the route table"),
            "kserve": _yes("a new revision takes all traffic when it is ready"),
            "istio": _yes("one change of the VirtualService"),
        },
    ),
    "ab": (
        "A/B test",
        {
            "kubernetes": _yes("the gateway's weights, sticky by themisto-key"),
            "kserve": _no("a caller changes sides between requests"),
            "istio": _no("a caller changes sides between requests"),
        },
    ),
    "sticky": (
        "the same key always to the same release",
        {
            "kubernetes": _yes("hash of themisto-key"),
            "kserve": _no("drawn for each request"),
            "istio": _no("drawn for each request; consistentHash keeps a key on one pod within a release, not across"),
        },
    ),
    "shadow": (
        "shadow",
        {
            "kubernetes": _yes("copies that nobody waits for"),
            "kserve": _no("no copies of requests"),
            "istio": _yes("mirrors of the VirtualService"),
        },
    ),
    "rollback": (
        "rollback",
        {
            "kubernetes": _yes("the earlier release stays loaded; one change of the route table"),
            "kserve": _differs("apply the earlier release again: its pods start anew"),
            "istio": _yes("the earlier release stays loaded; one change of the VirtualService"),
        },
    ),
    "entities": (
        "requests by entity key (feature service)",
        {
            "kubernetes": _yes("the gateway's transformer"),
            "kserve": _NO_TRANSFORMER,
            "istio": _NO_TRANSFORMER,
        },
    ),
    "code": (
        "deployed functions, in a Triton of their own",
        {
            "kubernetes": _yes("a Deployment a group, no token, one way out: to fetch the model"),
            "kserve": _no("its storage initializer needs a way out of the same pod"),
            "istio": _yes("a Deployment a release, no token, one way out: to fetch the model"),
        },
    ),
    "chain": (
        "chains of Python and a model",
        {target: _no("an ensemble's parts are loaded by the control plane alone") for target in TARGETS},
    ),
    "prediction-log": (
        "prediction log",
        {"kubernetes": _yes("the gateway's access log"), "kserve": _NO_LOG, "istio": _NO_LOG},
    ),
    "tokens": (
        "callers' tokens and rights",
        {
            "kubernetes": _yes("the gateway's token check"),
            "kserve": _no("whoever reaches the address may ask"),
            "istio": _differs("RequestAuthentication and AuthorizationPolicy; no list of revoked tokens"),
        },
    ),
    "breaker": (
        "circuit breaker of each release",
        {
            "kubernetes": _yes("bounds and outlier detection of each of the gateway's clusters"),
            "kserve": _no("no bounds, no outlier detection"),
            "istio": _differs("the same bounds in the DestinationRule, kept by each client's proxy for itself"),
        },
    ),
    "fallback": (
        "fallback to an earlier release",
        {"kubernetes": _yes("the gateway's"), "kserve": _NO_FALLBACK, "istio": _NO_FALLBACK},
    ),
    "declared": (
        "a rule or a default released with the model",
        {
            "kubernetes": _no("the cluster's gateway has neither: they are the one machine's"),
            "kserve": _NO_FALLBACK,
            "istio": _NO_FALLBACK,
        },
    ),
    "deadline": (
        "deadlines and bounded retries",
        {
            "kubernetes": _yes("the gateway's"),
            "kserve": _differs("a time limit, no retries"),
            "istio": _yes("timeout and retries of the VirtualService"),
        },
    ),
    "digest": (
        "the model's SHA-256 is verified where it starts",
        {
            "kubernetes": _yes("by the fetching container"),
            "kserve": _differs("the folder is named by the release's hash; nothing looks again"),
            "istio": _yes("by the fetching container"),
        },
    ),
    "scaling": (
        "scaling on the time in Triton's queue",
        {
            "kubernetes": _yes("HorizontalPodAutoscaler"),
            "kserve": _differs("on requests in flight"),
            "istio": _yes("HorizontalPodAutoscaler"),
        },
    ),
    "release-named": (
        "the answer names its release",
        {
            "kubernetes": _yes("header x-release"),
            "kserve": _differs("model_version in the body is the release's number"),
            "istio": _yes("header x-release; model_version in the body is the release's number"),
        },
    ),
}


def needs(plan: Plan) -> dict[Feature, str]:
    """What this endpoint asks of a target, each with the reason in words."""
    found: dict[Feature, str] = {}
    candidate = plan.candidate
    if candidate is not None:
        if plan.strategy == "ab":
            found["ab"] = found["sticky"] = f"{candidate.release} is in an A/B test"
        elif candidate.shadow:
            found["shadow"] = f"{candidate.release} is a shadow"
        else:
            found["canary"] = f"{candidate.release} is a canary"
    for placed in plan.placed:
        if placed.release.feature_service is not None:
            found["entities"] = f"{placed.release} reads features of {placed.release.feature_service}"
        if placed.release.fallback is not None:
            found["declared"] = f"{placed.release} declares what answers in its place"
        if placed.release.artifact.kind == "chain":
            found["chain"] = f"{placed.release} is a chain"
        if placed.release.artifact.is_code:
            found["code"] = f"{placed.release} is code"
    return found | dict.fromkeys(sorted(WAIVABLE), "every endpoint has it")


def check(plan: Plan, target: Target, *, without: Collection[Feature] = ()) -> None:
    """Raises Invalid if the target cannot honour what the endpoint asks for.

    without: features of `WAIVABLE` that the cluster goes without, by its operator's word.
    """
    wrong = sorted(set(without) - WAIVABLE)
    if wrong:
        raise Invalid(
            f"An endpoint cannot go without {', '.join(wrong)}.", f"What may be missing: {', '.join(sorted(WAIVABLE))}."
        )
    lost = {f: why for f, why in needs(plan).items() if TABLE[f][1][target].honours == "no" and f not in without}
    asked = {f: why for f, why in lost.items() if f not in WAIVABLE}
    if asked:
        raise Invalid(
            f"{target} cannot serve '{plan.endpoint}': "
            f"{'; '.join(_sentence(f, why, target) for f, why in asked.items())}.",
            f"Render it for {_other(asked)}." if _other(asked) else "Serve it on one machine, or release it without.",
        )
    if lost:
        raise Invalid(
            f"On {target}, '{plan.endpoint}' would lose: {'; '.join(_sentence(f, '', target) for f in lost)}.",
            f"Render it for {_other(lost)}, or say that the cluster goes without: --without {' '.join(lost)}.",
        )


def _sentence(feature: Feature, why: str, target: Target) -> str:
    title, by_target = TABLE[feature]
    return f"{title} ({', '.join(part for part in (why, by_target[target].how) if part)})"


def _other(features: Collection[Feature]) -> str:
    able = [t for t in TARGETS if all(TABLE[f][1][t].honours != "no" for f in features)]
    return " or ".join(able)


def markdown() -> str:
    """The table of the docs."""
    return "\n".join(_rows()) + "\n"


def _rows() -> Iterator[str]:
    yield f"| | {' | '.join(TARGETS)} |"
    yield "|---" * (len(TARGETS) + 1) + "|"
    for title, by_target in TABLE.values():
        cells = (f"**{by_target[t].honours}**: {by_target[t].how}" for t in TARGETS)
        yield f"| {title} | {' | '.join(cells)} |"
