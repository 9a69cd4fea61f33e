"""`%features` and `%%features` as typed."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import themisto
from themisto.features.magic import FeaturesMagics
from themisto.settings import Settings
from themisto.workbench import Workbench


@pytest.fixture
def magics(tmp_path, weather, weather_rows) -> FeaturesMagics:
    shell = InteractiveShell()
    shell.user_ns |= {
        "weather": weather,
        "delay": themisto.FeatureService("delay", features=["weather:temp"]),
        "flights": pd.DataFrame({"origin": ["JFK"], "dep": pd.to_datetime(["2013-01-01 11:00"]), "late": [1]}),
    }
    return FeaturesMagics(shell, Workbench(Settings(url=None, home=tmp_path)))


def test_from_apply_to_get(magics: FeaturesMagics) -> None:
    assert "delay@1" in repr(magics.features("apply delay weather"))
    assert "rows written   2" in repr(magics.features("materialize weather"))
    assert "Nothing had changed" in repr(magics.features("materialize weather"))
    assert "rows written   2" in repr(magics.features("materialize weather --full"))
    assert magics.features("get delay origin=JFK")["temp"].tolist() == [3.0]
    assert "weather" in repr(magics.features("list"))
    assert "temp float64" in repr(magics.features("show weather"))
    assert "2013-01-01 12:00" in repr(magics.features("freshness"))


def test_a_dry_run_tells_and_a_push_is_read(magics: FeaturesMagics) -> None:
    assert "would be" in repr(magics.features("apply weather delay --dry-run"))
    assert "delay" not in repr(magics.features("list"))
    assert "new" in repr(magics.features("apply weather delay"))
    assert "as it was" in repr(magics.features("apply weather delay"))
    magics.shell.user_ns["fresh"] = (
        magics.shell.user_ns["weather"].source.head(1).assign(time_hour=pd.Timestamp("2013-01-02"), temp=9.0)
    )
    assert "at once" in repr(magics.features("push weather fresh"))
    assert magics.features("get delay origin=JFK")["temp"].tolist() == [9.0]
    assert magics.features("get delay origin=JFK --as-of 2013-01-01T11:00")["temp"].tolist() == [1.5]


def test_cell_joins_into_the_variable(magics: FeaturesMagics) -> None:
    magics.features("apply weather delay")
    shown = magics.features("train --service delay --at dep", "SELECT origin, dep, late FROM flights")
    assert magics.shell.user_ns["train"]["temp"].tolist() == [1.5]
    assert "found temp" in repr(shown)
    assert "100.0 %" in shown._repr_html_()


def test_check_takes_its_options_from_the_line(magics: FeaturesMagics) -> None:
    magics.features("apply weather delay")
    magics.shell.user_ns["other"] = magics.shell.user_ns["flights"]
    shown = repr(magics.features("check delay --against flights --at dep --split other --sample 5 --seed 1"))
    assert "2 of 2 rows have the same entity and time in more than one part" in shown
    assert "target  say which column is the label (--label)" in shown
    assert "--label" in magics.complete("features", ["check", "delay", ""])


def test_freshness_is_held_against_the_promise(magics: FeaturesMagics) -> None:
    weather = magics.shell.user_ns["weather"]
    magics.shell.user_ns["weather"] = themisto.FeatureView(
        "weather", entity=weather.entity, at="time_hour", source=weather.source, fresh="2h"
    )
    magics.features("apply weather")
    (row,) = magics.features("freshness")
    assert row["promise"] == "2 h"
    assert row["kept"].startswith("no: the newest is")


def test_quarantine_is_a_frame(magics: FeaturesMagics) -> None:
    weather = magics.shell.user_ns["weather"]
    asking = [themisto.Expect("temp", between=(None, 2))]
    magics.shell.user_ns["weather"] = themisto.FeatureView(
        "weather", entity=weather.entity, at="time_hour", source=weather.source, expect=asking
    )
    assert "in quarantine 1: temp is not at most 2 (1)" in repr(magics.features("apply weather"))
    assert magics.features("quarantine weather")["temp"].tolist() == [3.0]
    shown = repr(magics.features("show weather"))
    assert "temp at most 2" in shown
    assert "in quarantine" in shown
    assert list(magics.complete("features", ["quarantine", ""])) == ["weather"]


def test_rows_that_are_left_out_are_told(magics: FeaturesMagics, capsys: pytest.CaptureFixture[str]) -> None:
    weather = magics.shell.user_ns["weather"]
    holes = weather.source.assign(origin=["JFK", None, "LGA", "JFK"])
    told = "2: origin is empty (1); another row has its key and time (1)"
    magics.shell.user_ns["weather"] = themisto.FeatureView(
        "weather", entity=weather.entity, at="time_hour", source=holes
    )
    assert f"2 rows to 2013-01-01 10:00 UTC; left out {told}" in repr(magics.features("apply weather"))
    assert re.search(rf"left out +{re.escape(told)}", repr(magics.features("show weather")))
    assert magics.features("quarantine weather").empty
    assert capsys.readouterr().out == f"Not in quarantine either, but left out: {told}.\n"
    everybody = weather.source.assign(origin=pd.Series([None] * 4, dtype="string"))
    magics.shell.user_ns["weather"] = themisto.FeatureView(
        "weather", entity=weather.entity, at="time_hour", source=everybody
    )
    assert "no rows; left out 4: origin is empty (4)" in repr(magics.features("apply weather"))


def test_rows_of_one_key_and_time_are_told(magics: FeaturesMagics) -> None:
    weather = magics.shell.user_ns["weather"]
    once = weather.source.drop_duplicates(["origin", "time_hour"])
    twice = pd.concat([once, once.assign(temp=9.0)])
    magics.shell.user_ns["weather"] = themisto.FeatureView(
        "weather", entity=weather.entity, at="time_hour", source=twice
    )
    assert "left out 3: another row has its key and time (3)" in repr(magics.features("apply weather"))
    magics.shell.user_ns["more"] = twice
    shown = repr(magics.features("push weather more"))
    assert re.search(r"left out +3: another row has its key and time", shown), shown


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("quarantine wether", "There is no feature view 'wether'"),
        ("check delay --against flihgts", "Did you mean flights"),
        ("check delay --against flights --split prat", "There is no variable 'prat'"),
        ("check delay --sample many", "invalid int value"),
        ("show wether", "There is no feature view 'wether'"),
        ("apply wether", "Did you mean weather"),
        ("get delay origin", "KEY=VALUE"),
        ("dance", "knows no"),
        ("", "needs a verb. Write %features list | show"),
        ("materialise weather", "knows no 'materialise'. Did you mean materialize"),
        ("pus weather flights", "knows no 'pus'. Did you mean push"),
        ("push weather", "%features push needs VAR. Write %features push VIEW VAR"),
        ("push weather flights --nw", "%features push has no option --nw. Write %features push VIEW VAR"),
        ("push weather flihgts", "There is no variable 'flihgts' in this notebook. Did you mean flights"),
        ("apply weather --dryrun", "%features apply has no option --dryrun. Did you mean --dry-run"),
        ("check delay --againts flights", "%features check has no option --againts. Did you mean --against"),
        ("list all", "%features list takes no 'all'. Write %features list"),
        ("apply flights", "A DataFrame cannot be applied. Apply an Entity"),
        ("materialize weather --since yesterday", "'yesterday' is no time. Write 2013-06-01"),
        ("get delay orgin=JFK", "delay@1 is read by origin. Give origin="),
        ("get delay origin=JFK --only tmp", "delay@1 has no feature 'tmp'. Did you mean temp"),
        ("get delay origin=JFK --last 0", "Ask for at least one"),
        ("get delay@x origin=JFK", "'delay@x' is not NAME@VERSION"),
        ("get delay origin=JFK --as-of 2013-01-01 --last 2", "(--as-of, --last). Leave one out"),
        ("erase airport origin=JFK", "Nothing was erased: there is no way back. Say that you mean it: --yes"),
    ],
)
def test_mistakes_are_one_sentence(magics: FeaturesMagics, line: str, says: str) -> None:
    magics.features("apply weather delay")
    before = magics.wb.features.list()
    with pytest.raises(UsageError, match=re.escape(says)):
        magics.features(line)
    assert magics.wb.features.list() == before


@pytest.mark.parametrize(
    ("line", "cell", "says"),
    [
        ("train --servce delay", "flights", "%%features has no option --servce. Did you mean --service?"),
        ("train", "flights", "%%features needs --service. Write %%features --service SERVICE"),
        ("2x --service delay", "flights", "'2x' is no variable name. Write %%features NAME --service SERVICE."),
        ("train --service delay", "flihgts", "no variable 'flihgts' in this notebook. Did you mean flights?"),
        (
            "train --service delay",
            "SELECT * FROM flihgts",
            "no DataFrame and no view. DataFrames here: flights.",
        ),
        ("train --service delay", "DROP TABLE flights", "The SQL is not one SELECT. Write one statement"),
        ("train --service delay", "COPY flights TO 'x.csv'", "The SQL is not one SELECT. Write one statement"),
        ("train --service delay", "SELEC 1", 'syntax error at or near "SELEC". It sees the DataFrames it names'),
        ("train --service delay --at late", "flights", "'late' is int64, not a time. Convert it"),
        ("train --service delay --at dpe", "flights", "no column dpe. delay@1 needs origin and a time"),
    ],
)
def test_mistakes_in_a_cell_are_one_sentence_and_make_no_variable(magics: FeaturesMagics, line, cell, says) -> None:
    magics.features("apply weather delay")
    with pytest.raises(UsageError, match=re.escape(says)):
        magics.features(line, cell)
    assert "train" not in magics.shell.user_ns


@pytest.mark.parametrize(
    ("verb", "reached"),
    [
        ("list", "list"),
        ("show weather", "show"),
        ("freshness", "freshness"),
        ("quarantine weather", "quarantine"),
        ("get delay origin=JFK", "get"),
        ("check delay", "check"),
    ],
)
def test_ctrl_c_while_looking_is_one_sentence(magics: FeaturesMagics, monkeypatch, verb, reached) -> None:
    magics.features("apply weather delay")
    monkeypatch.setattr(type(magics.wb.features), reached, stopped)
    with pytest.raises(UsageError, match=r"You stopped it\. Nothing was changed\."):
        magics.features(verb)


@pytest.mark.parametrize(
    ("verb", "reached", "says"),
    [
        ("apply weather", "put_rows", "'weather' is defined and has the rows it had before"),
        ("push weather fresh", "push", "The rows may be there, and not yet online"),
        ("materialize weather", "materialize", "Rows sent so far are online"),
        ("erase airport origin=JFK --yes", "erase", "Run it again to be sure"),
    ],
)
def test_ctrl_c_while_changing_says_how_things_stand(magics: FeaturesMagics, monkeypatch, verb, reached, says) -> None:
    magics.features("apply weather delay")
    magics.shell.user_ns["fresh"] = magics.shell.user_ns["weather"].source
    with monkeypatch.context() as patched:
        patched.setattr(type(magics.wb.features.registry), reached, stopped)
        with pytest.raises(UsageError, match=f"You stopped it. {says}. Run the same command again"):
            magics.features(verb)
    magics.features(verb)


def stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_tab_knows_views_services_keys_and_variables(magics: FeaturesMagics) -> None:
    magics.features("apply weather delay")
    assert list(magics.complete("features", ["show", ""])) == ["weather"]
    assert list(magics.complete("features", ["get", "delay", ""])) == ["origin=", "--as-of", "--last", "--only"]
    assert "delay" in magics.complete("features", ["train", "--service", ""])
    assert "weather" in magics.complete("features", ["apply", ""])


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("erase ", ["airport"]),
        ("erase airport ", ["origin=", "--yes"]),
        ("erase airport origin=JFK ", ["--yes"]),
        ("push weather ", ["flights"]),
        ("push weather flights ", []),
        ("show weather ", []),
        ("apply weather ", ["delay", "--dry-run"]),
        ("materialize weather --full ", ["--since", "--until"]),
        ("materialize weather --since ", []),
        ("get delay origin=JFK --last 2 ", ["--as-of", "--only"]),
        ("get nothing ", ["--as-of", "--last", "--only"]),
        ("check delay --against flights --label ", ["origin", "dep", "late"]),
        ("check delay --against flights --split ", ["origin", "dep", "late", "flights"]),
        ("train --service delay ", ["--at", "--known", "--to"]),
    ],
)
def test_tab_offers_what_the_verb_takes_and_has_not_got(magics: FeaturesMagics, line, offered) -> None:
    magics.features("apply weather delay")
    assert list(magics.complete("features", line.split(" "))) == offered


def test_tab_offers_the_key_of_an_entity_of_the_same_name(magics: FeaturesMagics) -> None:
    magics.shell.user_ns["spent"] = themisto.FeatureView(
        "spent",
        entity=themisto.Entity("customer", keys=["customer"]),
        at="day",
        source=pd.DataFrame({"customer": [1], "day": pd.to_datetime(["2024-01-01"]), "sum": [1.0]}),
    )
    magics.features("apply spent")
    assert list(magics.complete("features", ["erase", "customer", ""])) == ["customer=", "--yes"]


def test_show_says_whose_data_it_is_and_how_long_it_holds(magics: FeaturesMagics) -> None:
    weather = magics.shell.user_ns["weather"]
    features = [themisto.Feature("temp", personal=True), "sky"]
    magics.shell.user_ns["weather"] = themisto.FeatureView(
        "weather", entity=weather.entity, at="time_hour", source=weather.source, features=features,
        ttl="30d", fresh="1h", owner="risk", tags=["gold"], online=themisto.Online(keep=3),
    )  # fmt: skip
    magics.features("apply weather")
    facts = magics.features("show weather").facts
    assert facts["holds"] == "30 d"
    assert facts["promise"] == "the newest at most 1 h old"
    assert facts["online"] == "the last 3 of each entity"
    assert (facts["personal data"], facts["owner"], facts["tags"]) == (["temp"], "risk", ("gold",))


def test_how_a_materialization_goes_on_is_gone_when_it_is_over(magics: FeaturesMagics, monkeypatch) -> None:
    shown: list[object] = []
    handle = SimpleNamespace(update=lambda what, **_: shown.append(what))
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr("IPython.display.display", lambda what, **_: shown.append(what) or handle)
    magics.features("apply weather")
    told = repr(magics.features("materialize weather"))
    assert "weather goes online" in repr(shown[0])
    assert shown[-1] == {"text/plain": ""}
    assert "rows a second" in told


def test_one_row_is_a_row(magics: FeaturesMagics) -> None:
    magics.features("apply weather")
    magics.shell.user_ns["fresh"] = magics.shell.user_ns["weather"].source.head(1)
    assert "weather: 1 row\n" in repr(magics.features("push weather fresh"))
    magics.shell.user_ns["fresh"] = magics.shell.user_ns["fresh"].assign(temp="warm")
    with pytest.raises(UsageError, match=r"'temp' is string, not float64\. Convert it"):
        magics.features("push weather fresh")


def test_windows_and_transform_are_shown(magics: FeaturesMagics, weather_rows: pd.DataFrame) -> None:
    magics.shell.user_ns["storms"] = themisto.FeatureView(
        "storms",
        entity=themisto.Entity("airport", keys=["origin"]),
        at="time_hour",
        source=weather_rows.drop(index=3),
        transform="SELECT origin, time_hour, temp * 2 AS twice FROM source",
        every="1h",
        aggregates=[themisto.Aggregate("twice", "max", over="1d")],
    )
    magics.features("apply storms")
    shown = repr(magics.features("show storms"))
    for told in ("max_twice_1d float64", "1 h", "twice float64", "sql: SELECT origin"):
        assert told in shown


def test_get_with_what_the_request_brings(magics: FeaturesMagics) -> None:
    ratio = themisto.OnDemand("ratio", "heat / temp", request={"heat": "float64"})
    magics.shell.user_ns["guard"] = themisto.FeatureService("guard", features=["weather:temp"], on_demand=[ratio])
    assert "temp, ratio" in repr(magics.features("apply weather guard"))
    magics.features("materialize weather")
    assert magics.features("get guard origin=JFK heat=6")["ratio"].tolist() == [2.0]
    with pytest.raises(UsageError, match="'heat' is float64; 'much' is none"):
        magics.features("get guard origin=JFK heat=much")
