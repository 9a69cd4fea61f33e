"""SQL as a source: it sees what it is given and registered views, and ends."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid, NotFound, Refused, ThemistoError
from themisto.features.service import Features
from themisto.settings import Settings


@pytest.fixture
def trips(tmp_path: Path) -> Path:
    hours = pd.to_datetime(["2013-01-01 10:00", "2013-01-01 10:00", "2013-01-01 12:00"], utc=True)
    pd.DataFrame({"origin": ["JFK", "JFK", "LGA"], "time_hour": hours, "late": [5, 7, 9]}).to_parquet(
        tmp_path / "t.parquet"
    )
    return tmp_path / "t.parquet"


def view(source, airport) -> themisto.FeatureView:
    return themisto.FeatureView("made", entity=airport, at="time_hour", source=source)


def test_view_of_sql_over_a_file_and_another_view(applied: Features, airport, trips) -> None:
    sql = (
        "SELECT t.origin, t.time_hour, avg(late) AS mean_late, max(temp) AS warmest "
        "FROM trips t LEFT JOIN weather w USING (origin, time_hour) GROUP BY ALL"
    )
    made = view(applied.select(sql, trips=trips), airport)
    assert {f.name: f.dtype for f in made.features} == {"mean_late": "float64", "warmest": "float64"}
    applied.apply(made, themisto.FeatureService("s", features=["made"]))
    hours = pd.to_datetime(["2013-01-01 13:00"] * 2, utc=True)
    found = applied.historical(pd.DataFrame({"origin": ["JFK", "LGA"], "time_hour": hours}), "s")
    assert found["mean_late"].tolist() == [6.0, 9.0]
    assert found["warmest"][0] == 1.5
    assert pd.isna(found["warmest"][1])


def test_it_runs_anew_with_each_apply(features: Features, airport, trips) -> None:
    made = view(features.select("SELECT * FROM trips", trips=trips), airport)
    assert features.apply(made)[0].thing.data.rows == 2
    pd.concat([pd.read_parquet(trips), pd.read_parquet(trips).assign(origin="EWR")], ignore_index=True).to_parquet(
        trips
    )
    again = view(features.select("SELECT * FROM trips", trips=trips), airport)
    assert features.apply(again)[0].thing.data.rows == 4


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "SELECT * FROM read_parquet('{folder}/t.parquet')",
        "SELECT * FROM '{folder}/t.parquet'",
        "SELECT * FROM read_text('/etc/hostname')",
        "ATTACH '{folder}/out.db'",
        "EXPORT DATABASE '{folder}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE t AS SELECT * FROM trips",
        "INSERT INTO trips VALUES ('a', now(), 1)",
        "DELETE FROM trips",
        "PRAGMA database_list",
        "SELECT * FROM trips; SELECT 1",
        "SELECT getenv('HOME') FROM trips",
    ],
)
def test_sql_that_writes_or_reads_more_is_refused(features: Features, airport, trips, sql) -> None:
    with pytest.raises(ThemistoError, match=r"The SQL of the source|The SQL names"):
        view(features.select(sql.replace("{folder}", str(trips.parent)), trips=trips), airport)
    assert sorted(p.name for p in trips.parent.iterdir() if p.name.startswith("out")) == []


def test_sql_without_an_end_leaves_the_view_as_it_was(tmp_path, airport, trips) -> None:
    hasty = Features(Settings(url=None, home=tmp_path / "home", features_sql_budget_s=0.3), None)
    sql = "SELECT origin, time_hour, count(*) AS n FROM trips, range(10_000_000) a, range(10_000_000) b GROUP BY ALL"
    made = view(hasty.select(sql, trips=trips), airport)
    with pytest.raises(Refused, match=r"The SQL of the source did not end within 0\.3 s"):
        hasty.apply(made)
    assert hasty.show("made").data is None


def test_unknown_tables_and_files_are_named(features: Features, airport, trips) -> None:
    with pytest.raises(NotFound, match="The SQL names 'trip'"):
        view(features.select("SELECT * FROM trip", trips=trips), airport)
    with pytest.raises(NotFound, match=r"no file '/nowhere/x\.parquet' for the table 'x'"):
        features.select("SELECT * FROM x", x="/nowhere/x.parquet")
    trips.write_text("no Parquet")
    with pytest.raises(Invalid, match=r"'t\.parquet' cannot be read as Parquet"):
        features.select("SELECT * FROM trips", trips=trips)
