"""People of the embedded identity provider: one YAML file of names, groups and password hashes."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

__all__ = ["READY_MADE", "ensure_users", "password_hash"]

READY_MADE: Mapping[str, tuple[str, ...]] = {
    "scientist": ("data-science",),
    "colleague": ("data-science",),
    "reviewer": ("model-risk",),
    "admin": ("platform-admins",),
}
"""Role words and their groups: the people a new workbench comes with."""

_HEAD = """\
# People of the embedded identity provider, read again whenever this file changes.
# `disabled: true` ends a person's logins, refreshes and scheduled jobs. Passwords are scrypt hashes.
"""
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1


def ensure_users(path: Path) -> dict[str, str] | None:
    """Make the ready-made users with random passwords, once.

    Returns the passwords by name if the file was made now, None if it was there: only hashes are kept.
    """
    if path.exists():
        return None
    passwords = {name: secrets.token_urlsafe(12) for name in READY_MADE}
    users = {
        name: {
            "name": name.capitalize(),
            "email": f"{name}@example.com",
            "groups": list(groups),
            "password": password_hash(passwords[name]),
        }
        for name, groups in READY_MADE.items()
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(path, {"users": users})
    return passwords


def password_hash(password: str) -> str:
    """`scrypt$N$r$p$salt$key` (RFC 7914), salt and key in base64, as the provider verifies it."""
    salt = secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=32)
    text = [base64.b64encode(part).decode() for part in (salt, key)]
    return "$".join(["scrypt", str(_COST), str(_BLOCK), str(_PARALLEL), *text])


def _write(path: Path, data: dict[str, Any]) -> None:
    """Put the file there in one step, readable by its owner alone (the supervisor gives it to the provider)."""
    scratch = path.with_suffix(".new")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(_HEAD)
        yaml = YAML()
        yaml.width = 200
        yaml.dump(data, out)
    scratch.replace(path)
