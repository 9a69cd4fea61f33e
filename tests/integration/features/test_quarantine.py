"""What a view expects is kept at the control plane, whatever a kernel sends."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.integration.features.conftest import Bench, wait_until

import themisto
from themisto.errors import Failed, Invalid, NotFound, Refused
from themisto.features.judging import REASON
from themisto.features.rowfile import write_parquet
from themisto.features.service import Features
from themisto_hub.control.audit import AuditRow

ROWS = pd.DataFrame(
    {
        "origin": ["JFK", "JFK", "LGA"],
        "time_hour": pd.to_datetime(["2013-01-01 10:00", "2013-01-01 12:00", "2013-01-01 10:00"]),
        "temp": [1.0, 999.0, 2.0],
    }
)
MILD = themisto.Expect("temp", between=(-60, 60), nulls="<= 50%")
SERVICE = themisto.FeatureService("delay", features=["weather"])


def weather(*expects: themisto.Expect, rows: pd.DataFrame = ROWS) -> themisto.FeatureView:
    airport = themisto.Entity("airport", keys=["origin"])
    return themisto.FeatureView("weather", entity=airport, at="time_hour", source=rows, expect=expects)


@pytest.fixture
def features(bench: Bench, request: pytest.FixtureRequest) -> Features:
    group = request.node.name.replace("_", "-")[:40]
    return bench.features(f"scientist-{group}", [group])


def joined(features: Features) -> list[float]:
    late = pd.DataFrame({"origin": ["JFK", "LGA"], "time_hour": pd.to_datetime(["2013-01-02"] * 2)})
    return features.historical(late, "delay")["temp"].tolist()


def online(features: Features) -> list[float]:
    return features.get("delay", origin=["JFK", "LGA"])["temp"].tolist()


def test_bad_rows_of_a_hostile_kernel_go_nowhere(bench: Bench, features: Features, tmp_path) -> None:
    features.apply(weather(MILD), SERVICE)
    view = features.show("weather").view
    path, data = write_parquet(view, ROWS, tmp_path)  # what a kernel sends that judges nothing
    plane = features._control
    answer = plane.request(
        "PUT",
        "features/views/weather/data",
        params={"group": plane.group, "sha256": data.sha256},
        content=path.read_bytes(),
    ).json()
    assert (answer["rows"], answer["quarantined"][0]["rows"]) == (2, 1)
    features.materialize("weather")
    assert joined(features) == online(features) == [1.0, 2.0]
    with pytest.raises(NotFound):  # the file as it was sent is nowhere to be had
        plane.get("features/views/weather/data", group=plane.group, sha256=data.sha256)
    apart = features.quarantine("weather")
    assert apart[["origin", "temp", REASON]].to_numpy().tolist() == [["JFK", 999.0, "temp is not between -60 and 60"]]
    assert features.freshness()[0].quarantined == 1
    holes = ROWS.assign(temp=[None, None, 1.0])
    path, data = write_parquet(view, holes, tmp_path)
    with pytest.raises(Invalid, match=r"'temp' of 'weather' is empty in 66.7 % of 3 rows"):
        plane.request("PUT", "features/views/weather/data", params={"group": plane.group}, content=path.read_bytes())
    assert features.show("weather").data.rows == 2
    assert not list(bench.state.rglob("*.draft"))
    with bench.control.db.read() as session:
        told = [
            r.after for r in session.query(AuditRow).filter_by(action="feature_view.rows") if plane.group in r.object
        ]
        assert bench.control.audit.verify(session).intact
    assert [after["quarantined"][0]["rows"] for after in told] == [1]


def test_others_do_not_see_a_quarantine(bench: Bench, features: Features) -> None:
    features.apply(weather(MILD), SERVICE)
    (quarantine,) = features.show("weather").data.quarantined
    thief = bench.plane("thief", ["elsewhere"], group=features._control.group)
    with pytest.raises(Refused):
        thief.get("features/views/weather/quarantine", group=features._control.group, sha256=quarantine.sha256)
    with pytest.raises(NotFound):
        features._control.get("features/views/weather/quarantine", group=features._control.group, sha256="0" * 64)


def test_rows_leave_the_online_store_when_the_view_expects_more(features: Features) -> None:
    features.apply(weather(), SERVICE)
    features.materialize("weather")
    assert online(features) == [999.0, 2.0]
    features.registry.put_view(weather(MILD))
    assert features.show("weather").view.version == 1
    features.materialize("weather", since="2013-01-01 11:00")
    assert joined(features) == online(features) == [1.0, 2.0]
    assert features.show("weather").data.quarantined[0].cleared
    features.apply(weather(MILD), SERVICE)
    assert features.show("weather").data.quarantined[0].cleared  # the same rows again are nothing new
    features.registry.put_view(weather())
    features.materialize("weather")
    assert joined(features) == online(features) == [999.0, 2.0]
    assert features.quarantine("weather").empty


def test_a_run_that_met_a_store_that_was_down_leaves_no_quarantined_row_online(
    bench: Bench, features: Features
) -> None:
    features.apply(weather(), SERVICE)
    features.materialize("weather")
    features.registry.put_view(weather(MILD))
    plane = features._control
    bench.stop_transformer()
    run = plane.post("features/views/weather/materialize", {"group": plane.group})

    def state() -> str:
        return plane.get(f"features/materializations/{run['id']}")["state"]

    wait_until(lambda: features.show("weather").data.quarantined != (), "the judgement")
    assert not features.show("weather").data.quarantined[0].cleared
    bench.start_transformer()
    wait_until(lambda: state() == "done", "the run")
    assert online(features) == [1.0, 2.0]
    assert features.show("weather").data.quarantined[0].cleared


def test_a_run_over_rows_that_are_refused_fails_with_the_reason(features: Features) -> None:
    features.apply(weather(rows=ROWS.assign(temp=[None, None, 1.0])))
    features.registry.put_view(weather(MILD))
    with pytest.raises(Failed, match=r"is empty in 66.7 % of 3 rows, expected are at most 50 %"):
        features.materialize("weather")


def test_skew_is_read_through_the_gateway(features: Features) -> None:
    features.apply(weather(MILD), SERVICE)
    features.materialize("weather")
    assert features.check("delay").of("skew") == []
    newer = pd.concat([ROWS, ROWS.iloc[[2]].assign(time_hour=pd.Timestamp("2013-01-01 11:00"), temp=7.0)])
    features.apply(weather(MILD, rows=newer))
    (found,) = features.check("delay").of("skew")
    assert (found.figures["kind"], found.figures["of"]) == ("late", 2)
    assert found.figures["examples"] == [
        {
            "origin": "LGA",
            "offline_at": "2013-01-01T11:00:00+00:00",
            "online_at": "2013-01-01T10:00:00+00:00",
            "temp": [7.0, 2.0],
        }
    ]
