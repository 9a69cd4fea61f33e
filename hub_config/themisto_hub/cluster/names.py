"""Names: what Kubernetes accepts as a name or a label, made from what people typed; never two things under one name."""

from __future__ import annotations

import hashlib
import re

__all__ = ["MAX", "label", "name"]

MAX = 63
"""Longest label of a DNS name (RFC 1123), which Services, label values and pods' host names must be."""

_HASH = 8
_PLAIN = re.compile(r"^[a-z0-9]+\Z")
_LAST = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*\Z")


def name(*parts: str, limit: int = MAX) -> str:
    """The parts joined by `-`, as a DNS label that starts with a letter. The first says what kind of thing it is,
    and with that how many parts there are: other parts of the same number have another name.

    Where that would be too long, would change a character, or could be read as other parts too (a
    part before the last has a `-` of its own), eight digits of the parts' SHA-256 end it.

    >>> name("triton", "prod", "cpu-small")
    'triton-prod-cpu-small'
    >>> name("release", "credit_card", "7")
    'release-credit-card-7-8752e862'
    """
    joined = "-".join(parts)
    *before, last = parts
    faithful = all(_PLAIN.match(part) for part in before) and _LAST.match(last) and joined[0].isalpha()
    if faithful and len(joined) <= limit:
        return joined
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH]
    kept = re.sub(r"[^a-z0-9]+", "-", joined.lower()).strip("-")
    kept = kept if kept[:1].isalpha() else f"x-{kept}"
    return f"{kept[: limit - _HASH - 1].strip('-')}-{digest}"


def label(value: str) -> str:
    """A label's value: as it is where Kubernetes takes it, else as a `name`."""
    valid = re.match(r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?\Z", value)
    return value if valid and len(value) <= MAX else name(value)
