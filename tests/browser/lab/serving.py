"""Endpoints as a control plane tells them when much goes on: versions, gates, a return, an offer, a retired name."""

from datetime import timedelta
from types import MappingProxyType

from tests.browser.lab.conftest import _NOW, GROUP, HOSTILE, rollout

from themisto.serving.experiment import Arm, Effect
from themisto.serving.gates import GateResult, Quality, Slice
from themisto.serving.losses import LogLosses
from themisto.serving.models import (
    Artifact,
    Column,
    Endpoint,
    EndpointCaller,
    Fallback,
    Golden,
    Release,
    Signature,
)
from themisto.serving.shadow import Agreement, Apart, Times
from themisto.serving.verdict import Measured, Share, StepVerdict
from themisto_hub.control.serving.predictions import Prediction

SHA = "0" * 64
LONG = "early_warning_of_small_and_medium_enterprises_eu"
REASON = (
    "went back by itself: errors: 12 of 140 against 3 of 2,640 at stable; such a difference by chance: at most once in"
    " 7,815"
)


def gate(text, passed, says, **more):
    given = {"release": 3, "champion_release": 2, "source": "holdout", "pinned": False, "holdout_sha256": SHA}
    return GateResult(gate=text, passed=passed, says=says, rows=2000, at=_NOW, **(given | more))


GATES = (
    gate("auc >= champion - 0.005", True, "auc is 0.812, champion@2 has 0.809: as asked >= 0.804"),
    gate(
        "min_slice(auc) >= 0.7",
        True,
        f"auc is 0.74 where region is {HOSTILE}",
        slices=(Slice(column="region", value=HOSTILE, rows=900, metric=0.74),),
    ),
    gate("auc >= 0.75", True, "auc is 0.812, as asked >= 0.75", pinned=True),
)
VERDICT = StepVerdict(
    finding="open",
    words="errors: 1 of 812 against 3 of 1,840 at stable; slow (slower than 12.0 ms): 9 of 812 against 18 of 1,840 at"
    " stable. To decide: more answers",
    at=_NOW,
    measured=(
        Measured(what="errors", candidate=Share(hits=1, of=812), stable=Share(hits=3, of=1840), finding="fine"),
        Measured(
            what="slow",
            detail="slower than 12.0 ms",
            candidate=Share(hits=9, of=812),
            stable=Share(hits=18, of=1840),
        ),
    ),
)


def endpoint(name, **more):
    return Endpoint(name=name, updated_at=_NOW - timedelta(minutes=3), **({"group": GROUP, "tier": "dev"} | more))


CREDIT = endpoint(
    "credit",
    tier="prod",
    demo=True,
    stable=7,
    candidate=8,
    strategy="shadow",
    rollout=rollout("credit", 8, "running", message="").model_copy(update={"strategy": "shadow", "weight_pct": 0}),
    pinned=Quality(gates=("auc >= 0.75",), holdout_sha256=SHA, rows=2000, label="default", by=("region",)),
)
CREDIT_V2 = endpoint(
    "credit.v2",
    tier="prod",
    demo=True,
    stable=2,
    candidate=3,
    weight_pct=30,
    strategy="canary",
    rollout=rollout(
        "credit.v2",
        3,
        "running",
        steps=(5, 30, 100),
        step=1,
        step_since=_NOW - timedelta(minutes=2),
        verdict=VERDICT,
        gates=GATES,
    ),
)
CHURN = endpoint("churn", stable=4, rollout=rollout("churn", 5, "rolled_back", message=REASON))
OFFERED = endpoint("fraud", group="risk", stable=3, offered_to=GROUP)
LONG_NAMED = endpoint(
    LONG, stable=1, rollout=rollout(LONG, 1, "done", message="first release; 32 golden rows repeated")
)
HELD = endpoint(
    "limits",
    stable=1,
    candidate=2,
    weight_pct=5,
    strategy="canary",
    rollout=rollout(
        "limits",
        2,
        "running",
        steps=(5, 30, 100),
        stage="decide",
        message="holds at 5 %: 24 h brought too few answers to decide.",
    ),
)
RETIRED = endpoint("pilot", retired=True)
CROWD = (CHURN, CREDIT, CREDIT_V2, LONG_NAMED, OFFERED, HELD, RETIRED)

CALLERS = [
    EndpointCaller(caller=HOSTILE, endpoint="credit.v2", version=2, count=1200, last=_NOW - timedelta(minutes=1)),
    EndpointCaller(caller="loan-desk", endpoint="credit", version=1, count=31, last=_NOW - timedelta(days=2)),
]
LOSSES = LogLosses(dropped_lines=1204, failed_writes=3, last_at=_NOW - timedelta(hours=2))
_COLUMN = Column(name="x", dtype="FP32")
RELEASE = Release(
    id="01JD7Z3K8Q4W5E6R7T8Y9V0ABC",
    endpoint="credit.v2",
    number=2,
    author="scientist",
    created_at=_NOW,
    hash=SHA,
    group=GROUP,
    artifact=Artifact(kind="onnx", sha256=SHA, size_bytes=9),
    golden=Golden(inputs={}, outputs={}),
    signature=Signature(inputs=(_COLUMN,), outputs=(_COLUMN,)),
    fallback=Fallback(
        default={"score": 0.5, "note": HOSTILE}, rule=Artifact(kind="python", sha256=SHA, size_bytes=9), after_ms=300
    ),
)


def asked(number, **more):
    """One request of the log, `number` seconds before now."""
    given = {"request_id": f"6f1c2a90-7b1d-4c55-9d7e-{number:012d}", "caller": "loan-desk", "endpoint": "credit"}
    given |= {"release": "credit@7", "chosen": "credit@7", "key": None, "entity": False, "protocol": "http"}
    given |= {"path": "/v2/models/credit/infer", "status": 200, "latency_ms": 1.44, "flags": None}
    return Prediction(time=_NOW - timedelta(seconds=number), **(given | more))


REFUSED = f"unexpected shape for input 'income' {HOSTILE}: expected [-1,1], got [1,3]"
LOG = [
    asked(1),
    asked(
        2,
        chosen="credit@8",
        fallback="earlier",
        latency_ms=204.2,
        flags="UT",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    ),
    asked(3, status=400, release=None, caller=HOSTILE, error=REFUSED),
    asked(4, protocol="grpc", status=14, release=None, latency_ms=0.3, flags="UH"),
    asked(5, caller="spiffe://bank.example/ns/retail/sa/early-warning-of-small-and-medium-enterprises", status=None),
    *(asked(number, latency_ms=1 + number / 10) for number in range(6, 20)),
    asked(90_000, request_id=HOSTILE, latency_ms=1204.4),
]
OLDER = [asked(90_001 + number) for number in range(3)]
NEXT = "1763720000000000.0.r%2F1"
AGREEMENT = Agreement(
    release="credit@8",
    beside=("credit@7",),
    rows=2000,
    requests=1000,
    agree=0.981,
    largest=0.3117,
    latency=Times(p50_ms=1.44, p99_ms=3.02),
    latency_shadow=Times(p50_ms=1.91, p99_ms=4.25),
    failed=2,
    alone=0,
    apart=(
        Apart(
            time=_NOW,
            request_id="6f1c2a90-7b1d-4c55-9d7e-000000000001",
            row=0,
            difference=None,
            ours={"score": 0.6123},
            shadow={"score": None},
        ),
        Apart(
            time=_NOW,
            request_id="6f1c2a90-7b1d-4c55-9d7e-000000000002",
            row=1,
            difference=0.3117,
            ours={"score": 0.6123, "segment": "retail"},
            shadow={"score": 0.3006, "segment": HOSTILE},
        ),
    ),
)
EFFECT = Effect(
    metric="latency_ms",
    unit="key",
    control=Arm(release="credit.v2@2", exposed=5812, values=6120, mean=3.12),
    treatment=Arm(release="credit.v2@3", exposed=2401, values=2533, mean=6.01),
    difference=2.89,
    low=2.41,
    high=3.37,
    confidence=0.95,
    method="Welch's t over keys, clustered (linearised ratio of sums)",
    share_pct=None,
    srm_p=None,
    notes=("The share of the traffic was not constant, so the split itself is not checked.",),
)
LOOKS = MappingProxyType({"endpoints/credit/shadow": AGREEMENT, "endpoints/credit.v2/ab": EFFECT})


def crowd(control):
    """Much goes on."""
    control.answer("endpoints", [one.model_dump(mode="json") for one in CROWD])
    control.answer("predictions/losses", LOSSES.model_dump(mode="json"))
    control.answer("endpoints/credit/callers", [one.model_dump(mode="json") for one in CALLERS])
    control.answer("endpoints/credit/log", [one.model_dump(mode="json") for one in LOG], x_next=NEXT)
    for path, found in LOOKS.items():
        control.answer(path, found.model_dump(mode="json"))
    for one in CROWD:
        if one.candidate:
            released = RELEASE.model_copy(update={"endpoint": one.name, "number": one.candidate})
            control.answer(f"endpoints/{one.name}/releases/{one.candidate}", released.model_dump(mode="json"))
        if one.stable:
            released = RELEASE.model_copy(update={"endpoint": one.name, "number": one.stable})
            control.answer(f"endpoints/{one.name}/releases/{one.stable}", released.model_dump(mode="json"))
