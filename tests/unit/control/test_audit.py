"""The audit chain: whole, it verifies; edited, cut or reordered, it does not."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from themisto_hub.control.audit import Audit, verify_copy
from themisto_hub.control.db import Database


def clock():
    return datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.fixture
def database(tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'control.db'}")
    db.migrate()
    yield db
    db.close()


@pytest.fixture
def audit(tmp_path, database):
    chain = Audit(tmp_path / "audit", clock)
    with database.write() as session:
        for n in range(6):
            chain.append(
                session, actor=f"p{n}", action="do", object="endpoint/x", before={"n": n}, after={"é": [n, 1.5]}
            )
        chain.sign_head(session)
    return chain


def verdict(audit, database):
    with database.read() as session:
        return audit.verify(session)


def test_untouched_chain_verifies(audit, database):
    found = verdict(audit, database)
    assert found.intact
    assert found.events == 6


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit_event SET actor = 'x' WHERE number = 3", 3),
        ("UPDATE audit_event SET after = '{}' WHERE number = 2", 2),
        ("DELETE FROM audit_event WHERE number = 4", 4),
        ("DELETE FROM audit_event WHERE number = 6", 6),
        ("UPDATE audit_event SET number = number + 100 WHERE number = 1", 1),
    ],
)
def test_tampered_chain_names_the_first_broken_link(audit, database, statement, broken_at):
    with database.write() as session:
        session.execute(text(statement))
    found = verdict(audit, database)
    assert not found.intact
    assert found.broken_at == broken_at


def test_chain_rewritten_with_fresh_hashes_disagrees_with_the_signed_head(audit, database, tmp_path):
    with database.write() as session:
        session.execute(text("DELETE FROM audit_event"))
        for n in range(6):
            audit.append(session, actor="forger", action="do", object="endpoint/x", before={"n": n})
    found = verdict(audit, database)
    assert not found.intact
    assert "signed head" in found.reason


def test_forged_head_is_noticed(audit, database, tmp_path):
    heads = tmp_path / "audit" / "heads.jsonl"
    heads.write_text(heads.read_text().replace('"signature": "', '"signature": "AAAA'))
    assert not verdict(audit, database).intact


def test_event_and_change_are_stored_together_or_not_at_all(audit, database):
    def half() -> None:
        with database.write() as session:
            audit.append(session, actor="a", action="b", object="c")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert verdict(audit, database).events == 6


def test_copy_is_verified_against_the_same_heads(audit, database, tmp_path):
    assert verify_copy(database.url, tmp_path / "audit", clock).intact


def test_private_key_is_readable_by_its_owner_only(audit, tmp_path):
    assert (tmp_path / "audit" / "signing.pem").stat().st_mode & 0o077 == 0
