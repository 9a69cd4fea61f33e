"""What the doctor says: of events how many wait, what was given up and why, never where to; of rows their store."""

from __future__ import annotations

import base64
import json

import pytest

from themisto.types import new_ulid, utcnow
from themisto_hub.control.db import Database
from themisto_hub.control.outbox.tables import DeliveryRow
from themisto_hub.doctor import _events, _offline
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


def test_a_folder_of_rows_is_well(tmp_path):
    assert _offline(Deployment(state=tmp_path)) == (f"file://{tmp_path}/control/offline", True)


def test_a_bucket_that_does_not_answer_is_told(tmp_path, monkeypatch, free_base):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    url = f"http://127.0.0.1:{free_base()}"
    said, well = _offline(Deployment(state=tmp_path, offline_store=f"s3://rows?endpoint={url}"))
    assert (said, well) == (f"S3 at {url} does not answer. Nothing was changed; try again later.", False)


def test_a_url_that_is_none_is_told(tmp_path):
    said, well = _offline(Deployment(state=tmp_path, offline_store="s3://key:very-secret@rows"))
    assert not well
    assert said.startswith("THEMISTO_OFFLINE_STORE holds a name or a password.")
    assert "very-secret" not in said
