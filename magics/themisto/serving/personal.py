"""Personal: columns about a person, and what the prediction log keeps of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast, get_args

from themisto.errors import Conflict, Invalid
from themisto.serving.models import Personal, Signature
from themisto.serving.options import pairs_of

__all__ = ["STICKY_KEY", "check_personal", "is_ciphertext", "is_covered", "personal_columns", "unreadable_keys"]

STICKY_KEY = "themisto-key"
"""Names the header that makes an endpoint sticky: often a customer's number."""

_WAYS = get_args(Personal)
_HASHED = re.compile(r"hmac-sha256:[0-9a-f]{64}")
_ENCRYPTED = re.compile(r"aes-gcm:[A-Za-z0-9+/]+={0,2}")


def personal_columns(text: str | Mapping[str, str] | None) -> dict[str, Personal]:
    """`name=hash,email=drop` as a dict. Raises Invalid for another way than hash, encrypt and drop.

    >>> personal_columns("name=hash,email=drop")
    {'name': 'hash', 'email': 'drop'}
    """
    said = [part for part in text.split(",") if part] if isinstance(text, str) else text or {}
    found: dict[str, Personal] = {}
    for name, way in pairs_of(said):
        if not name.strip() or way not in _WAYS:
            raise Invalid(
                f"'{name}={way}' says not what the log keeps of a column.", "Write --personal name=hash,email=drop."
            )
        found[name.strip()] = cast("Personal", way)
    return found


def check_personal(personal: Mapping[str, Personal], signature: Signature, looked_up: Sequence[str]) -> None:
    """Every name must be one that requests or answers can hold. Raises Invalid: a typo would log what it names."""
    known = {c.name for c in (*signature.inputs, *signature.outputs)} | set(looked_up) | {STICKY_KEY}
    unknown = sorted(set(personal) - known)
    if unknown:
        raise Invalid(
            f"There is no column {', '.join(unknown)} to keep out of the log.",
            f"There are: {', '.join(sorted(known))}.",
        )


def is_ciphertext(kept: str) -> bool:
    """Whether the log keeps a value encrypted: then the same value looks different each time."""
    return _ENCRYPTED.fullmatch(kept) is not None


def is_covered(kept: str) -> bool:
    """Whether the log keeps a value hashed or encrypted."""
    return _HASHED.fullmatch(kept) is not None or is_ciphertext(kept)


def unreadable_keys(endpoint: str, remedy: str) -> Conflict:
    """What is said to who joins something with the log by keys that it does not hold as they were sent."""
    return Conflict(f"The keys of '{endpoint}' are personal: the log does not hold them as they were sent.", remedy)
