"""No key and no token is in a log, a table or an answer, after a deploy that fails and one that works."""

from __future__ import annotations

import logging

import pytest

pytestmark = pytest.mark.timeout(120)


def test_no_secret_is_left_in_logs_audit_or_routes_for_others(tritons, reconciled, deploy, settings, keys, hub, caplog):
    caplog.set_level(logging.DEBUG)
    tritons.start("dev")
    deploy(reconciled, 2.0, claims=3.0)
    reconciled.wait_for("credit", "failed", timeout_s=60)
    deploy(reconciled, 2.0)
    reconciled.wait_for("credit", "done", timeout_s=60)
    reconciled.http.post("/operator/rollback/credit", headers={"x-operator-key": "guessed-key"})
    secrets = [value.get_secret_value() for _, value in keys if value is not None]
    secrets += ["token-of-scientist", "token-of-control", "guessed-key"]
    said = {"log of the control plane": caplog.text, "audit": repr([vars(row) for row in reconciled.audit()])}
    said |= {f"log {file.name}": file.read_text() for file in settings.folder("logs").iterdir()}
    database = settings.folder("control") / "control.db"
    said |= {file.name: file.read_bytes().decode("latin-1") for file in database.parent.glob("control.db*")}
    found = [(where, secret) for where, text in said.items() for secret in secrets if secret in text]
    assert len(said) >= 4
    assert found == []
