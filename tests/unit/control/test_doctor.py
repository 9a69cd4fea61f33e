"""What the doctor says of events: how many wait, what was given up and why, and never where to."""

from __future__ import annotations

import base64
import json

import pytest

from themisto.types import new_ulid, utcnow
from themisto_hub.control.db import Database
from themisto_hub.control.outbox.tables import DeliveryRow
from themisto_hub.doctor import _events
from themisto_hub.settings import Deployment

SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "THEMISTO_KEY_EVENTS", json.dumps([{"url": "https://hooks.bank.example/very-secret", "secret": SECRET}])
    )
    return Deployment(state=tmp_path)


def stored(settings, state, problem=""):
    settings.folder("control").mkdir(exist_ok=True)
    db = Database(settings.database_url)
    db.migrate()
    now = utcnow()
    with db.write() as session:
        session.add(
            DeliveryRow(
                id=new_ulid(),
                event=new_ulid(),
                target="t",
                kind="job.failed",
                content={},
                state=state,
                attempts=1,
                not_before=now,
                problem=problem,
                created_at=now,
                ended_at=None if state == "waiting" else now,
            )
        )
    db.close()


def test_before_the_first_start_there_is_no_database_and_none_is_made(settings):
    assert _events(settings) == ("https://hooks.bank.example; no database yet", True)
    assert not settings.folder("control").exists()


def test_what_waits_is_counted(settings):
    stored(settings, "waiting")
    assert _events(settings) == ("https://hooks.bank.example; 1 waiting", True)


def test_what_was_given_up_is_not_well_and_says_why(settings):
    stored(settings, "failed", "it answered HTTP 500")
    said, well = _events(settings)
    assert said == "https://hooks.bank.example; 0 waiting; 1 given up in the last day: it answered HTTP 500"
    assert not well


def test_a_wrong_setting_is_told_without_its_value(settings, monkeypatch):
    monkeypatch.setenv("THEMISTO_KEY_EVENTS", '[{"url": "https://hooks.bank.example/very-secret"}]')
    said, well = _events(settings)
    assert "needs a secret" in said
    assert "very-secret" not in said
    assert not well


def test_without_the_control_planes_tables_it_says_so(settings):
    settings.folder("control").mkdir()
    Database(settings.database_url).engine.connect().close()
    assert _events(settings)[0] == "cannot be looked at: the database does not answer"
