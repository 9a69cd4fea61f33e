"""The transformer's own look at tokens: whose they are, until when, for what."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from themisto.errors import Refused, Unauthenticated
from themisto_hub.control.tokens import Signer
from themisto_hub.gateway.feature_callers import Callers, Trusted


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    folder: Path = tmp_path_factory.mktemp("keys")
    return {name: Signer(folder / f"{name}.pem", f"https://{name}", now) for name in ("ours", "machines", "false")}


@pytest.fixture
def callers(signers: dict[str, Signer]) -> Callers:
    made = Callers()
    made.use(Trusted(issuer=s.issuer, jwks=s.jwks) for n, s in signers.items() if n != "false")
    return made


def bearer(signer: Signer, **claims) -> str:
    given = {"iss": signer.issuer, "aud": "themisto", "sub": "m", "exp": now().timestamp() + 60} | claims
    return "Bearer " + jwt.encode(given, signer._key, algorithm="RS256", headers={"kid": signer._kid})


def test_token_of_the_control_plane_counts(callers: Callers, signers: dict[str, Signer]) -> None:
    token = signers["ours"].token("scientist", ("data-science",), ["infer"]).token
    for _ in range(2):
        caller = callers.of(f"Bearer {token}")
    assert (caller.name, caller.groups) == ("scientist", ("data-science",))
    caller.require_endpoint("credit", "data-science")
    for group in ("elsewhere", ""):
        with pytest.raises(Refused):
            caller.require_endpoint("credit", group)
    with pytest.raises(Refused):
        caller.require("features:read")


def test_machine_may_call_the_endpoints_its_token_lists(callers: Callers, signers: dict[str, Signer]) -> None:
    caller = callers.of(bearer(signers["machines"], endpoints=["credit"]))
    caller.require_endpoint("credit", "data-science")
    with pytest.raises(Refused):
        caller.require_endpoint("fraud", "data-science")


def test_tokens_that_do_not_hold_are_refused(callers: Callers, signers: dict[str, Signer]) -> None:
    ours, machines, false = (signers[n] for n in ("ours", "machines", "false"))
    wrong = [
        "",
        "Bearer",
        "Basic eA==",
        "Bearer x.y.z",
        bearer(false),
        bearer(machines, iss=ours.issuer),  # signed by one that is trusted, in another's name
        bearer(ours, aud="other"),
        bearer(ours, exp=now().timestamp() - 5),
        bearer(ours, iss="https://elsewhere"),
        "Bearer " + jwt.encode({"iss": ours.issuer, "aud": "themisto", "sub": "x"}, "", algorithm="none"),
        "Bearer " + jwt.encode({"iss": ours.issuer, "aud": "themisto", "sub": "x"}, "k" * 64, algorithm="HS256"),
    ]
    for authorization in wrong:
        with pytest.raises(Unauthenticated):
            callers.of(authorization)


def test_known_token_ends_in_time_and_by_revocation(signers: dict[str, Signer]) -> None:
    clock, denied = [time.time()], set()
    callers = Callers(denied=lambda: frozenset(denied), clock=lambda: clock[0])
    callers.use([Trusted(issuer=signers["ours"].issuer, jwks=signers["ours"].jwks)])
    token = bearer(signers["ours"], jti="one")
    callers.of(token)
    denied.add("one")
    with pytest.raises(Unauthenticated, match="revoked"):
        callers.of(token)
    denied.clear()
    clock[0] += 120
    with pytest.raises(Unauthenticated, match="ended"):
        callers.of(token)
    callers.use([])
    with pytest.raises(Unauthenticated):
        callers.of(token)
