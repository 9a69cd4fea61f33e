"""Transactions, times and migrations, on SQLite and on a real PostgreSQL."""

import threading
from datetime import datetime
from importlib import resources

import pytest
from sqlalchemy import text

from themisto.types import utcnow
from themisto_hub.control.audit import Audit
from themisto_hub.control.db import Database, UtcDateTime
from themisto_hub.control.serving.tables import RolloutRow


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'c.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    db = Database(url)
    db.migrate()
    yield db
    db.close()


def test_migrating_twice_changes_nothing(database):
    database.migrate()


def test_rollouts_of_before_the_steps_stay_with_people(tmp_path):
    from alembic import command
    from alembic.config import Config

    db = Database(f"sqlite:///{tmp_path / 'c.db'}")
    config = Config()
    config.set_main_option("script_location", str(resources.files("themisto_hub.control") / "migrations"))
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        now = utcnow().replace(tzinfo=None).isoformat(sep=" ")
        connection.execute(
            text(
                "INSERT INTO serving_endpoint VALUES ('credit', 'g', 'dev', 0, 1, NULL, 2, 5, 'canary', 0, :now, :now)"
            ),
            {"now": now},
        )
        connection.execute(
            text(
                "INSERT INTO serving_rollout (id, endpoint, release, strategy, weight_pct, state, stage, message,"
                " requested_by, proved, approved, tries, created_at, updated_at)"
                " VALUES ('a', 'credit', 2, 'canary', 5, 'running', 'traffic', '', 's', 0, 0, 0, :now, :now)"
            ),
            {"now": now},
        )
    db.migrate()
    with db.read() as session:
        row = session.get(RolloutRow, "a")
        assert (row.manual, row.steps, row.verdict, row.step_since) == (True, [], None, row.updated_at)
    db.close()


def test_parallel_writers_make_one_unbroken_chain(database, tmp_path):
    audit = Audit(tmp_path / "audit", utcnow)
    failures = []

    def write():
        try:
            for _ in range(10):
                with database.write() as session:
                    audit.append(session, actor="a", action="b", object="c")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failures
    with database.read() as session:
        found = audit.verify(session)
    assert found.intact
    assert found.events == 60


def test_read_transaction_stores_nothing(database, tmp_path):
    audit = Audit(tmp_path / "audit", utcnow)
    with database.read() as session:
        audit.append(session, actor="a", action="b", object="c")
    with database.read() as session:
        assert audit.verify(session).events == 0


def test_naive_time_is_refused():
    with pytest.raises(ValueError, match="naive"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), None)  # noqa: DTZ001 - the point of the test


def test_existing_file_is_backed_up_before_a_migration(tmp_path):
    file = tmp_path / "c.db"
    db = Database(f"sqlite:///{file}")
    with db.write() as session:
        session.execute(text("CREATE TABLE something (x INTEGER)"))
    db.migrate()
    db.close()
    assert any(f.name.startswith("c.db.before-") for f in tmp_path.iterdir())
    assert file.stat().st_size > 0


def test_endpoints_that_were_retired_before_know_since_when(tmp_path):
    """Revision 0008 over a database of the revision before it."""
    from importlib import resources

    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    db = Database(f"sqlite:///{tmp_path / 'c.db'}")
    config = Config()
    config.set_main_option("script_location", str(resources.files("themisto_hub.control") / "migrations"))
    before = ScriptDirectory.from_config(config).get_revision("0008").down_revision
    at = utcnow()
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, before)
        for name, retired in (("old", True), ("live", False)):
            values = {"name": name, "retired": retired, "at": at.replace(tzinfo=None).isoformat(" ")}
            connection.execute(
                text(
                    "INSERT INTO serving_endpoint (name, group_name, tier, demo, weight_pct, retired, created_at,"
                    " updated_at) VALUES (:name, 'g', 'dev', false, 0, :retired, :at, :at)"
                ),
                values,
            )
    db.migrate()
    from themisto_hub.control.serving.tables import EndpointRow

    with db.read() as session:
        assert session.get(EndpointRow, "old").retired_at == at
        assert session.get(EndpointRow, "live").retired_at is None
    db.close()
