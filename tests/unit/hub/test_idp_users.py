"""The ready-made people: made once, only hashes kept."""

import base64
import hashlib

from ruamel.yaml import YAML

from themisto_hub.idp_users import READY_MADE, ensure_users, password_hash


def test_people_are_made_once_and_passwords_are_told_once(tmp_path):
    file = tmp_path / "idp" / "users.yaml"
    passwords = ensure_users(file)
    assert passwords is not None
    assert list(passwords) == ["scientist", "colleague", "reviewer", "admin"]
    assert len(set(passwords.values())) == 4
    before = file.read_bytes()
    assert ensure_users(file) is None
    assert file.read_bytes() == before


def test_only_hashes_are_kept_and_only_the_owner_reads_them(tmp_path):
    file = tmp_path / "users.yaml"
    passwords = ensure_users(file) or {}
    text = file.read_text()
    assert not [p for p in passwords.values() if p in text]
    assert file.stat().st_mode & 0o777 == 0o600
    users = YAML(typ="safe").load(text)["users"]
    assert {name: tuple(user["groups"]) for name, user in users.items()} == READY_MADE


def test_a_hash_can_be_verified_from_what_it_says():
    kind, n, r, p, salt, key = password_hash("secret").split("$")
    got = hashlib.scrypt(b"secret", salt=base64.b64decode(salt), n=int(n), r=int(r), p=int(p), dklen=32)
    assert kind == "scrypt"
    assert base64.b64encode(got).decode() == key
    assert password_hash("secret") != password_hash("secret")
