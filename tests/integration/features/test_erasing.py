"""A person who is erased is gone, online and offline, and does not come back."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest
from sqlalchemy import select
from tests.integration.features.conftest import Bench, wait_until, workbench

import themisto
from themisto.errors import Invalid, NotFound, Refused
from themisto.features.service import Features
from themisto.settings import Settings
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.features.tables import ErasureRow

PERSON = themisto.Entity("person", keys=["bank", "number"])
ROWS = pd.DataFrame(
    {
        "bank": ["x", "x", "y", "x"],
        "number": [1, 1, 1, 2],
        "at": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-01", "2024-01-01"]),
        "balance": [1.0, 2.0, 3.0, 4.0],
    }
)
WHO = {"bank": ["x", "y", "x"], "number": [1, 1, 2]}


def view(rows: pd.DataFrame, name: str = "accounts", **more) -> themisto.FeatureView:
    return themisto.FeatureView(name, entity=PERSON, at="at", source=rows, **more)


@pytest.fixture(params=["local", "workbench", "s3"])
def features(request: pytest.FixtureRequest, tmp_path: Path) -> Features:
    made = Features(Settings(url=None, home=tmp_path), None) if request.param == "local" else workbench(request)
    scoring = themisto.FeatureService("scoring", features=["accounts:balance", "limits:top"])
    limits = ROWS.rename(columns={"balance": "top"})
    made.apply(view(ROWS), view(limits, "limits"), scoring)
    made.materialize("accounts")
    made.materialize("limits")
    return made


def online(features: Features) -> list[float | None]:
    return [None if pd.isna(v) else v for v in features.get("scoring", **WHO)["balance"]]


def offline(features: Features) -> list[float | None]:
    spine = pd.DataFrame(WHO).assign(at=pd.Timestamp("2024-02-01"))
    return [None if pd.isna(v) else v for v in features.historical(spine, "scoring")["balance"]]


def test_one_is_gone_everywhere_and_the_others_are_not(features: Features) -> None:
    assert online(features) == offline(features) == [2.0, 3.0, 4.0]
    done = features.erase("person", bank="x", number=1)
    assert (done.state, done.views, done.files) == ("done", ("accounts", "limits"), 2)
    assert online(features) == offline(features) == [None, 3.0, 4.0]
    assert features.get("scoring", **WHO)["top"].isna().tolist() == [True, False, False]
    assert features.show("accounts").data.rows == 2


def test_neither_materialize_nor_apply_nor_push_brings_it_back(features: Features) -> None:
    features.erase("person", bank="x", number=1)
    features.materialize("accounts")
    assert online(features) == [None, 3.0, 4.0]
    features.apply(view(ROWS))
    features.materialize("accounts")
    features.push("accounts", ROWS.head(1).assign(at=pd.Timestamp("2024-03-01")))
    features.push("accounts", ROWS.tail(1).assign(at=pd.Timestamp("2024-01-03"), balance=5.0))
    assert online(features) == [None, 3.0, 5.0]
    wait_until(lambda: offline(features) == [None, 3.0, 5.0], "the merge")
    features.apply(view(ROWS.assign(more=1)))
    features.materialize("accounts")
    assert offline(features)[0] is None


def test_whom_nobody_knows_is_told(features: Features) -> None:
    with pytest.raises(NotFound, match="No feature view is about 'nobody'"):
        features.erase("nobody", bank="x", number=1)
    with pytest.raises(Invalid, match="known by bank, number"):
        features.erase("person", bank="x")
    with pytest.raises(Invalid, match="'number' is int64"):
        features.erase("person", bank="x", number="one")
    assert features.erase("person", bank="nowhere", number=9).files == 0
    assert online(features) == [2.0, 3.0, 4.0]


def test_no_file_has_her_and_the_old_digest_says_why(either: Bench) -> None:
    features = either.features("owner-of-files", ["files"])
    for factor in (1, 2, 3):
        features.apply(view(ROWS.assign(balance=ROWS.balance * factor)))
    features.push("accounts", ROWS.head(1).assign(at=pd.Timestamp("2024-03-01")))
    before = features.show("accounts").data.sha256
    features.erase("person", bank="x", number=1)
    files = [*either.stored("files", "accounts").glob("*.parquet")]
    assert len(files) >= 4
    for file in files:
        assert duckdb.read_parquet(str(file)).filter("bank = 'x' AND number = 1").fetchall() == []
    with pytest.raises(NotFound, match=r"written anew on 20.*erased"):
        either.control.features.rows.find("files", "accounts", before)
    with either.control.db.read() as session:
        rows = session.scalars(select(ErasureRow).where(ErasureRow.group_name == "files")).all()
        assert [row.key for row in rows] == [None]
        told = session.scalars(select(AuditRow).where(AuditRow.action.like("feature_entity.erase%"))).all()
        assert {"feature_entity.erase", "feature_entity.erased"} <= {row.action for row in told}
        assert either.control.audit.verify(session).intact


def test_only_the_group_with_the_scope_erases(bench: Bench) -> None:
    owner = bench.features("owner-of-erasing", ["erasing"])
    owner.apply(view(ROWS), themisto.FeatureService("scoring", features=["accounts"]))
    with pytest.raises(NotFound):
        bench.features("stranger-to-erasing", ["elsewhere"]).erase("person", bank="x", number=1)
    reader = bench.features("reader-of-erasing", ["erasing"], scopes=["custom:themisto:features:read"])
    with pytest.raises(Refused):
        reader.erase("person", bank="x", number=1)
    assert owner.show("accounts").data.rows == 4
