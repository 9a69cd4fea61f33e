"""Tokens for the gateway: ten-minute JWTs that Envoy verifies by itself, offline."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt

from themisto.types import Model, new_ulid
from themisto_hub.control.keyfile import load_or_make_rsa

__all__ = ["GatewayToken", "Signer"]

LIFETIME_S = 600


class GatewayToken(Model):
    """A token and the moment it ends (seconds since the epoch)."""

    token: str
    expires_at_s: float


class Signer:
    """Signs with RS256; the key is made on first use and never leaves its file."""

    def __init__(self, key_file: Path, issuer: str, clock: Callable[[], datetime]) -> None:
        self._key = load_or_make_rsa(key_file)
        self.issuer = issuer
        self._clock = clock

    def token(
        self, subject: str, groups: tuple[str, ...], scopes: list[str], *, endpoints: tuple[str, ...] = ()
    ) -> GatewayToken:
        """A JWT for `subject` (RFC 7519), valid at the gateway only; `endpoints` are those that a machine may call."""
        now = int(self._clock().timestamp())
        claims = {
            "iss": self.issuer,
            "aud": "themisto",
            "sub": subject,
            "groups": list(groups),
            "scopes": scopes,
            "jti": new_ulid(),
            "iat": now,
            "exp": now + LIFETIME_S,
        }
        if endpoints:
            claims["endpoints"] = list(endpoints)
        token = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._kid})
        return GatewayToken(token=token, expires_at_s=float(now + LIFETIME_S))

    @property
    def jwks(self) -> dict[str, Any]:
        """The public half, as a JSON Web Key Set (RFC 7517)."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self._kid, "n": _b64(numbers.n), "e": _b64(numbers.e)}
        return {"keys": [key]}

    @property
    def _kid(self) -> str:
        numbers = self._key.public_key().public_numbers()
        return hashlib.sha256(f"{numbers.n}:{numbers.e}".encode()).hexdigest()[:16]


def _b64(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
