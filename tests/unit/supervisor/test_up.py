"""The ready-made users: their passwords are never lost half-way."""

import json
from types import SimpleNamespace

import pytest

from themisto_hub.supervisor import up


@pytest.fixture
def state(tmp_path):
    for name in ("idp", "keys"):
        (tmp_path / name).mkdir()
    return tmp_path


IDP = SimpleNamespace(uid=None)


def test_passwords_are_made_once(state):
    up._ensure_users(state, IDP)
    first = up.users_file(state).read_text()
    up._ensure_users(state, IDP)
    assert up.users_file(state).read_text() == first
    assert set(json.loads(first)) == {"scientist", "colleague", "reviewer", "admin"}


def test_an_interruption_before_the_passwords_were_kept_makes_new_people(state, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(up.json, "dump", lambda *_a, **_k: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            up._ensure_users(state, IDP)
    assert not (state / "idp" / "users.yaml").exists(), "people whose passwords nobody knows"
    up._ensure_users(state, IDP)
    assert (state / "idp" / "users.yaml").exists()
    assert json.loads(up.users_file(state).read_text())


def test_an_operators_own_people_are_kept(state):
    (state / "idp" / "users.yaml").write_text("users: {}\n")
    up._ensure_users(state, IDP)
    assert not up.users_file(state).exists()
