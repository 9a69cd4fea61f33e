"""From a kernel through the control plane to the online store and back."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pandas as pd
import pytest
from tests.integration.features.conftest import KEY, Bench, wait_until

import themisto
from themisto import Aggregate
from themisto.errors import Invalid, NotFound, Refused, Unauthenticated, Unavailable
from themisto.features.records import RegisteredView
from themisto.features.service import Features
from themisto_hub.control.audit import AuditRow

ROWS = pd.DataFrame(
    {
        "origin": ["JFK", "JFK", "LGA"],
        "time_hour": pd.to_datetime(["2013-01-01 10:00", "2013-01-01 12:00", "2013-01-01 10:00"]),
        "temp": [1.0, 3.0, float("nan")],
        "sky": ["clear", "rain", None],
    }
)


def weather(rows: pd.DataFrame = ROWS, name: str = "weather") -> themisto.FeatureView:
    return themisto.FeatureView(
        name, entity=themisto.Entity("airport", keys=["origin"]), at="time_hour", ttl="3h", source=rows
    )


def delay(**more) -> themisto.FeatureService:
    return themisto.FeatureService("delay", features=["weather"], **more)


@pytest.fixture(scope="module")
def applied(bench: Bench):
    features = bench.features("scientist", ["data-science"])
    features.apply(weather(), delay())
    features.materialize("weather")
    return features


def test_get_through_the_gateway(applied) -> None:
    found = applied.get("delay", origin=["JFK", "EWR", "LGA"])
    assert found["temp"].fillna(-1).tolist() == [3.0, -1, -1]
    assert found["sky"].tolist()[0] == "rain"
    assert found["event_time"].isna().tolist() == [False, True, False]


def test_history_joins_in_the_kernel_from_rows_fetched_once(bench: Bench, applied) -> None:
    colleague = bench.features("colleague", ["data-science"])
    flights = pd.DataFrame({"origin": ["JFK"], "time_hour": pd.to_datetime(["2013-01-01 11:00"])})
    assert colleague.historical(flights, "delay")["temp"].tolist() == [1.0]
    cached = list((bench.state / "colleague" / "cache" / "features").iterdir())
    assert len(cached) == 1
    colleague.historical(flights, "delay")
    assert list((bench.state / "colleague" / "cache" / "features").iterdir()) == cached


def test_versions_are_kept_and_the_same_again_is_nothing_new(bench: Bench) -> None:
    features = bench.features("versions", ["versions"])
    first = features.apply(weather(), delay())
    again = features.apply(weather(), delay())
    assert [again[0].thing.view.version, again[1].thing.version] == [1, 1]
    assert again[0].thing.data == first[0].thing.data
    assert [done.change.effect for done in (*first, *again)] == ["new", "new", "nothing", "nothing"]
    features.apply(weather(ROWS.assign(wind=1)), delay())
    assert features.service("delay").version == 2
    assert features.show("weather").view.version == 2
    features.materialize("weather")
    assert [features.get(f"delay@{n}", origin="JFK").shape[1] for n in (1, 2)] == [4, 5]


def test_windows_online_are_those_of_the_join(bench: Bench) -> None:
    features = bench.features("payer", ["payments"])
    now = pd.Timestamp.now(tz="UTC").floor("5min")
    paid = pd.DataFrame(
        {
            "customer": [1, 1, 1, 2],
            "paid_at": [now - pd.Timedelta(minutes=m) for m in (1, 1, 90, 3)],
            "number": [1, 2, 3, 4],
            "amount": [10.0, 30.0, 5.0, None],
            "merchant": ["a", "b", "a", "c"],
        }
    )
    view = themisto.FeatureView(
        "spending",
        entity=themisto.Entity("customer", keys=["customer"]),
        at="paid_at",
        sequence="number",
        every="5m",
        source=paid,
        aggregates=[
            Aggregate("amount", "avg", over=["1h", "7d"]),
            Aggregate("merchant", "count_distinct", over="7d"),
            Aggregate("*", "count", over="1h"),
        ],
    )
    features.apply(view, themisto.FeatureService("scoring", features=["spending"]))
    for _ in range(2):
        features.materialize("spending")
    online = features.get("scoring", customer=[1, 2, 3]).drop(columns="event_time")
    assert online.fillna(-1).values.tolist() == [[1, 20, 15, 2, 2], [2, -1, -1, 1, 1], [3, -1, -1, 0, 0]]
    spine = pd.DataFrame({"customer": [1, 2, 3], "paid_at": [pd.Timestamp.now(tz="UTC")] * 3})
    joined = features.historical(spine, "scoring").drop(columns="paid_at")
    pd.testing.assert_frame_equal(joined, online, check_dtype=False)


def test_a_check_fetches_anew_where_the_rows_it_was_to_fetch_were_replaced(bench: Bench) -> None:
    ours, theirs = (bench.features(name, ["checking"]) for name in ("checker", "changer"))
    view = themisto.FeatureView("sky", entity=themisto.Entity("airport", keys=["origin"]), at="time_hour", source=ROWS)
    ours.apply(view, themisto.FeatureService("seen", features=["sky"]))

    def push(temp: float) -> Path:
        """One row more, and the file of all of them."""
        theirs.push("sky", ROWS.tail(1).assign(temp=temp))
        data = bench.control.features.layers.merge("checking", "sky")
        return bench.control.features.rows.folder("checking", "sky") / f"{data.sha256}.parquet"

    before = push(7.0)

    class Late:
        """Between learning what the view has and fetching it somebody else pushes."""

        asked = 0

        def __getattr__(self, name: str) -> object:
            return getattr(ours.registry, name)

        def file(self, registered: RegisteredView) -> Path:
            self.asked += 1
            if self.asked == 1:
                push(8.0)
                theirs.materialize("sky")
            return ours.registry.file(registered)

    late = Late()
    assert before.exists()
    found = Features(ours._settings, None, late).check("seen")
    assert (before.exists(), late.asked) == (False, 2)
    assert ("skew" in found.skipped, found.of("skew")) == (False, [])


def test_other_groups_see_nothing(bench: Bench, applied) -> None:
    stranger = bench.features("stranger", ["elsewhere"])
    with pytest.raises(NotFound):
        stranger.show("weather")
    with pytest.raises(NotFound):
        stranger.registry.read("delay", [{"origin": "JFK"}])
    thief = bench.plane("thief", ["elsewhere"], group="data-science")
    with pytest.raises(Refused):
        thief.get("features/views", group="data-science")


def test_scopes_are_asked_for(bench: Bench, applied) -> None:
    reader = bench.features("reader", ["data-science"], ["custom:themisto:features:read"])
    assert reader.get("delay", origin="JFK")["temp"].tolist() == [3.0]
    with pytest.raises(Refused):
        reader.apply(delay(on_missing="null"))
    caller = bench.features("caller", ["data-science"], ["custom:themisto:infer"])
    with pytest.raises(Refused):
        caller.registry.read("delay", [{"origin": "JFK"}])


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer x.y.z"}, {"x-caller": "scientist", "x-groups": "data-science"}]
)
def test_reads_without_a_true_token_are_refused(bench: Bench, applied, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{bench.url}/v2/features/delay", json={"entities": {"origin": ["JFK"]}}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:themisto:unauthenticated"


def test_rows_are_written_by_the_worker_only(bench: Bench) -> None:
    for headers in ({}, {"x-themisto-key": "guess"}):
        assert httpx.post(f"{bench.url}/internal/v1/rows", content=b"{}", headers=headers).status_code == 403
    wrong = httpx.post(f"{bench.url}/internal/v1/rows", content=b"{}", headers={"x-themisto-key": KEY})
    assert wrong.status_code == 422


@pytest.mark.parametrize(
    ("entities", "says"),
    [
        ([{"origin": 5}], "string"),
        ([{}], "lack the key origin"),
        ([{"origin": "JFK", "x": 1}], "unknown key 'x'"),
        ([{"origin": "JFK"}, {"x": 1}], "Not all entities have origin, x"),
    ],
)
def test_wrong_reads_are_told(applied, entities, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        applied.registry.read("delay", entities)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("features/views/x", {}),
        ("features/views/x", {"name": "X y", "entity": {"name": "e", "keys": ["k"]}}),
        ("features/services/x", {"name": "x", "features": ["a:b:c"]}),
        ("features/services/x", {"name": "y", "features": ["a"]}),
        ("features/entities/x", {"name": "x", "keys": []}),
        ("features/entities/x", {"name": "x", "keys": ["k"], "surprise": 1}),
    ],
)
def test_wrong_definitions_are_refused(bench: Bench, path: str, body: dict) -> None:
    with pytest.raises(Invalid):
        bench.plane("scientist", ["data-science"]).put(path, body)


def test_rows_that_do_not_fit_are_refused_and_leave_nothing(bench: Bench, applied, tmp_path) -> None:
    plane = bench.plane("scientist", ["data-science"])
    ROWS.to_parquet(tmp_path / "raw.parquet")
    for body in (b"", b"not parquet", (tmp_path / "raw.parquet").read_bytes()):
        with pytest.raises(Invalid):
            plane.request("PUT", "features/views/weather/data", params={"group": "data-science"}, content=body)
    assert not list(bench.state.rglob("*.draft"))


def test_writes_are_in_the_audit_chain(bench: Bench, applied) -> None:
    with bench.control.db.read() as session:
        actions = {row.action for row in session.query(AuditRow)}
        assert bench.control.audit.verify(session).intact
    assert {"feature_view.put", "feature_view.rows", "feature_service.put", "feature_view.materialize"} <= actions


def test_reads_go_on_while_the_control_plane_is_dead(bench: Bench, applied) -> None:
    applied.get("delay", origin="JFK")
    token = applied._control.gateway_token()
    bench.stop_control()
    try:
        bench.stop_transformer(signal.SIGKILL)
        bench.start_transformer()
        answer = httpx.post(
            f"{bench.url}/v2/features/delay@1",
            json={"entities": {"origin": ["JFK"]}},
            headers={"authorization": f"Bearer {token}"},
        )
        assert [c["values"] for c in answer.json()["columns"]] == [[3.0], ["rain"]]
        with pytest.raises(Unavailable):
            applied.materialize("weather")
    finally:
        bench.start_control()


def test_materialize_waits_for_a_store_that_is_down(bench: Bench, applied) -> None:
    bench.stop_transformer()
    plane = bench.plane("scientist", ["data-science"])
    run = plane.post("features/views/weather/materialize", {"group": "data-science"})
    time.sleep(1)
    bench.start_transformer()
    wait_until(lambda: plane.get(f"features/materializations/{run['id']}")["state"] == "done", "the run")


def test_unknown_token_key_is_refused_at_the_gateway(bench: Bench, applied) -> None:
    applied._control._gateway_token = ("a.b.c", time.time() + 500)
    try:
        with pytest.raises(Unauthenticated):
            applied.registry.read("delay", [{"origin": "JFK"}])
    finally:
        applied._control._gateway_token = None
