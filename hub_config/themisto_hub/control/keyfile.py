"""Private keys in files that only their service reads, made on first use."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

__all__ = ["load_or_make_ed25519", "load_or_make_rsa", "load_or_make_secret"]

_Key = TypeVar("_Key", Ed25519PrivateKey, RSAPrivateKey)


def load_or_make_ed25519(file: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in `file` (PEM, PKCS 8, mode 0600)."""
    key = _load(file) if file.exists() else _store(file, Ed25519PrivateKey.generate())
    assert isinstance(key, Ed25519PrivateKey)
    return key


def load_or_make_rsa(file: Path) -> RSAPrivateKey:
    """The 2048-bit RSA key in `file` (PEM, PKCS 8, mode 0600)."""
    key = _load(file) if file.exists() else _store(file, generate_private_key(public_exponent=65537, key_size=2048))
    assert isinstance(key, RSAPrivateKey)
    return key


def load_or_make_secret(file: Path) -> bytes:
    """The 32 random bytes in `file` (mode 0600)."""
    if not file.exists():
        _put(file, secrets.token_bytes(32))
    return file.read_bytes()


def _load(file: Path) -> object:
    return serialization.load_pem_private_key(file.read_bytes(), password=None)


def _store(file: Path, key: _Key) -> _Key:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _put(file, pem)
    return key


def _put(file: Path, content: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = file.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    scratch.replace(file)
