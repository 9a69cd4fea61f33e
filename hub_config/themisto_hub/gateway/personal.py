"""Personal: columns about a person, made unreadable before a line of the log becomes Parquet.

hash: HMAC-SHA-256 (RFC 2104) under a key of the workbench, so that the same value can be followed without being known.
encrypt: AES-256-GCM (NIST SP 800-38D) under a key of its own; `decrypt` is for who holds that. drop: nothing stays.
The declarations are a file that the control plane writes beside Envoy's: all that any release of an endpoint
has ever declared, so that a line of an old release is never read by the rules of a new one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from themisto.serving.models import Personal
from themisto.serving.personal import STICKY_KEY
from themisto.types import Model
from themisto_hub.gateway.put import put

__all__ = ["DECLARED", "KEEPS_LESS", "Declared", "Veil", "decrypt", "write_declared"]

DECLARED = "personal.json"
KEEPS_LESS: tuple[Personal, ...] = ("encrypt", "hash", "drop")
_HASHED, _ENCRYPTED = "hmac-sha256:", "aes-gcm:"
_NONCE_BYTES = 12
WITHHELD = "withheld"
"""What stands for a model's words about its error, which may repeat what it was sent."""


class Declared(Model):
    """Endpoint to column to what is kept of it."""

    endpoints: Mapping[str, Mapping[str, Personal]] = {}


def write_declared(declared: Declared, folder: Path) -> None:
    """Put the file in place, atomically."""
    put(folder / DECLARED, declared.model_dump_json())


class Veil:
    """Covers rows of the log. The keys are hexadecimal, 32 bytes; without one, its columns are dropped."""

    def __init__(self, hash_key: SecretStr | None, encrypt_key: SecretStr | None) -> None:
        self._hash_key = _bytes(hash_key)
        self._encrypt_key = _bytes(encrypt_key)

    def over(self, row: dict[str, Any], declared: Declared) -> dict[str, Any]:
        """The row as it may be kept. `inputs` and `outputs` are JSON, as `predictions.prediction` makes them."""
        columns = declared.endpoints.get(str(row["endpoint"]))
        if not columns:
            return row
        covered, asked = dict(row), None if row["inputs"] is None else json.loads(row["inputs"])
        if row["key"] is not None:
            way = _way_of_key(row["key"], columns, asked)
            covered["key"] = row["key"] if way is None else self._value(row["key"], STICKY_KEY, way)
        for side in ("inputs", "outputs"):
            if row[side] is not None:
                covered[side] = json.dumps(self._side(json.loads(row[side]), columns, side), ensure_ascii=False)
        return covered

    def _side(self, values: dict[str, Any], columns: Mapping[str, Personal], side: str) -> dict[str, Any]:
        if side == "outputs" and isinstance(values.get("error"), str):
            return {"error": WITHHELD}
        kept = {}
        for name, column in values.items():
            way = columns.get(name)
            if way is None:
                kept[name] = column
            elif way != "drop":
                kept[name] = [self._value(v, name, way) for v in column] if isinstance(column, list) else None
        return kept

    def _value(self, value: Any, name: str, way: Personal) -> str | None:
        if value is None or way == "drop":
            return None
        text = json.dumps(value, ensure_ascii=False).encode()
        if way == "hash":
            return _HASHED + hmac.new(self._hash_key, text, hashlib.sha256).hexdigest() if self._hash_key else None
        return _encrypted(self._encrypt_key, text, name) if self._encrypt_key else None


def _way_of_key(key: str, columns: Mapping[str, Personal], asked: Mapping[str, Any] | None) -> Personal | None:
    """As declared; and a key that repeats a personal column's value, or may do so unseen, as that column."""
    ways = {way for name, way in columns.items() if name == STICKY_KEY or _repeats(key, name, asked)}
    return max(ways, key=KEEPS_LESS.index, default=None)


def _repeats(key: str, name: str, asked: Mapping[str, Any] | None) -> bool:
    if asked is None:  # a body too large for the log
        return True
    values = asked.get(name)
    return isinstance(values, list) and any(str(value) == key for value in values if value is not None)


def decrypt(kept: str, name: str, key: bytes) -> Any:
    """The value of the column `name` that was encrypted. Raises ValueError for what this key did not make."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    raw = base64.b64decode(kept.removeprefix(_ENCRYPTED), validate=True)
    try:
        return json.loads(AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], name.encode()))
    except InvalidTag:
        raise ValueError("another key or column made this") from None


def _encrypted(key: bytes, text: bytes, name: str) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return _ENCRYPTED + base64.b64encode(nonce + AESGCM(key).encrypt(nonce, text, name.encode())).decode()


def _bytes(key: SecretStr | None) -> bytes:
    return bytes.fromhex(key.get_secret_value()) if key else b""
