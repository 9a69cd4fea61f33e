"""DataFrame in, DataFrame out: batches, stickiness, tokens, and every way it can go wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from themisto.errors import Conflict, Invalid, NotFound, Refused, Unauthenticated, Unavailable


@pytest.fixture
def credit(serving, booster, numbers):
    serving.deploy("credit", booster, numbers)
    return serving.endpoint("credit")


@pytest.fixture
def canary(serving, credit, numbers, late):
    """A second release at 40 %."""
    import lightgbm as lgb

    serving.deploy("credit", lgb.LGBMClassifier(n_estimators=3, verbose=-1).fit(numbers, late), numbers, weight_pct=40)
    return credit


def test_answers_are_those_of_the_model_with_types_and_index_kept(credit, booster, numbers):
    asked = numbers.head(10).set_index(pd.Index(list("abcdefghij")))
    answer = credit.predict(asked)
    assert list(answer.index) == list(asked.index)
    assert answer.label.dtype == np.int64
    assert (answer.label == booster.predict(asked)).all()
    assert np.allclose(answer.probabilities.tolist(), booster.predict_proba(asked), atol=1e-6)
    assert answer.attrs["release"] == "credit@1"


def test_what_stood_in_for_the_release_is_named(credit, plane, numbers):
    assert "fallback" not in credit.predict(numbers.head(2)).attrs
    plane.stands_in = "default"
    assert credit.predict(numbers.head(2)).attrs["fallback"] == "default"


def test_columns_in_another_order_and_others_beside_them(credit, booster, frame, numbers):
    answer = credit.predict(frame[["temp", "carrier", "dist", "hour"]].head(5))
    assert (answer.label == booster.predict(numbers.head(5))).all()


def test_more_rows_than_the_batch_are_asked_in_parts_and_come_back_in_order(credit, plane, booster, numbers):
    answer = credit.predict(numbers)
    assert (answer.label == booster.predict(numbers)).all()
    assert len(plane.asked) == -(-len(numbers) // 64)


def test_one_call_is_answered_by_one_release(canary, numbers):
    for _ in range(5):
        assert canary.predict(numbers.head(200)).attrs["release"] in ("credit@1", "credit@2")


def test_a_key_column_sticks_rows_to_releases(canary, numbers):
    asked = numbers.head(60).assign(passenger=[f"p{i % 12}" for i in range(60)])
    first, second = canary.predict(asked, key="passenger"), canary.predict(asked, key="passenger")
    assert first.attrs["releases"] == second.attrs["releases"]
    assert set(first.attrs["releases"]) == {"credit@1", "credit@2"}
    by_passenger = pd.DataFrame({"p": asked.passenger, "r": first.attrs["releases"]}).groupby("p").r.nunique()
    assert (by_passenger == 1).all()


def test_entity_keys_alone_are_sent_as_they_are(serving, plane, booster, numbers):
    from tests.unit.serving.test_deploy import service

    plane.services["flights"] = service("flights", ["hour", "dist", "temp"])
    serving.deploy("bykey", booster, numbers, features="flights")
    answer = serving.endpoint("bykey").predict(pd.DataFrame({"origin": ["JFK", "LGA"], "gate": [1, 2]}))
    assert len(answer) == 2
    assert plane.asked[-1][2] == {"origin": ["JFK", "LGA"], "gate": [1, 2]}


def test_an_expired_token_is_renewed_once(credit, plane, numbers):
    credit.predict(numbers.head(1))
    plane.refuse_tokens.add("token-1")
    assert len(credit.predict(numbers.head(1))) == 1
    plane.refuse_tokens |= {f"token-{i}" for i in range(10)}
    with pytest.raises(Unauthenticated):
        credit.predict(numbers.head(1))


def test_goes_on_while_the_control_plane_is_down(credit, plane, numbers):
    credit.predict(numbers.head(1))
    plane.down.add("control")
    credit._known = (credit._known[0], -1e9)
    assert len(credit.predict(numbers.head(3))) == 3


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([1, 2], "takes a DataFrame, not a list"),
        (pd.DataFrame({"hour": [], "dist": [], "temp": []}), "no rows"),
        (pd.DataFrame({"hour": [1], "distance": [1.0], "temp": [1.0]}), r"'dist' \(there is 'distance'\) missing"),
        (pd.DataFrame({"hour": ["x"], "dist": [1.0], "temp": [1.0]}), "'hour' is .* the model takes INT64"),
        (pd.DataFrame({"hour": [1.5], "dist": [1.0], "temp": [1.0]}), "'hour' is .* the model takes INT64"),
    ],
)
def test_wrong_frames_are_told_before_they_are_sent(credit, plane, asked, says):
    with pytest.raises(Invalid, match=says):
        credit.predict(asked)
    assert plane.asked == []


def test_a_key_that_is_no_column_is_told(credit, numbers):
    with pytest.raises(Invalid, match="no column 'customer'"):
        credit.predict(numbers, key="customer")


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (403, Refused, "You may not ask 'credit'"),
        (404, NotFound, "No endpoint 'credit' answers"),
        (429, Unavailable, "Too many requests"),
        (503, Unavailable, "does not answer now"),
        (400, Invalid, "as the test says"),
    ],
)
def test_the_gateways_refusals_are_ours(credit, plane, numbers, status, error, says):
    plane.gateway_status = status
    with pytest.raises(error, match=says) as caught:
        credit.predict(numbers.head(1))
    assert caught.value.remedy


def test_an_unknown_endpoint_is_named(serving, numbers):
    with pytest.raises(NotFound, match="no endpoint 'nothing'"):
        serving.endpoint("nothing").predict(numbers)


def test_a_gateway_that_is_gone_is_one_sentence(credit, numbers):
    from themisto.client import GatewayAddress

    gone = GatewayAddress(http="http://127.0.0.1:9", grpc="127.0.0.1:9")
    control = credit._control
    control.__dict__["discovery"] = control.discovery.model_copy(update={"gateway": gone})
    with pytest.raises(Unavailable, match="gateway cannot be reached"):
        credit.predict(numbers.head(1))


def test_before_the_first_approval_it_says_what_it_waits_for(serving, booster, numbers):
    serving.deploy("waits", booster, numbers, tier="prod")
    with pytest.raises(NotFound, match="waits for approval"):
        serving.endpoint("waits").predict(numbers)


def test_replaying_goldens_finds_each_release(serving, canary):
    found = serving.test("credit")
    assert [r.release for r in found] == ["credit@1", "credit@2"]
    assert all(r.agrees for r in found)


def test_replaying_goldens_tells_what_differs(serving, plane, credit):
    release = plane.releases["credit"][0]
    outputs = dict(release.golden.outputs)
    outputs["label"] = [1 - v for v in outputs["label"]]
    golden = release.golden.model_copy(update={"outputs": outputs})
    plane.releases["credit"][0] = release.model_copy(update={"golden": golden})
    (found,) = serving.test("credit")
    assert not found.agrees
    assert "32 of 32 rows" in found.detail


def test_moving_traffic(serving, canary):
    assert serving.promote("credit").stable == 2
    assert serving.rollback("credit", reason="as a test").candidate is None
    retired = serving.retire("credit")
    assert retired.retired
    canary._known = None
    with pytest.raises(NotFound, match="was retired"):
        canary.predict(pd.DataFrame({"hour": [1]}))


def test_moving_traffic_by_steps(serving, canary):
    paused = serving.pause("credit", reason="a look at the scores").rollout
    assert (paused.manual, paused.message) == (True, "paused by scientist: a look at the scores")
    resumed = serving.resume("credit")
    assert (resumed.weight_pct, resumed.rollout.manual) == (40, False)
    assert serving.step("credit").stable == 2
    with pytest.raises(Conflict):
        serving.step("credit")


VERBS = ["status", "diff", "test", "step", "pause", "resume", "promote", "rollback", "retire", "releases", "log"]


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_endpoint_names_the_nearest(serving, credit, verb):
    with pytest.raises(NotFound, match="Did you mean credit"):
        getattr(serving, verb)("credits")
