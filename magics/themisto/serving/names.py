"""Names of endpoints: a base that a group owns, and the versions its callers move between.

`credit` is version 1 and stays it; `credit.v2` answers beside it, for callers of another signature.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

from themisto.errors import Invalid

__all__ = ["ENDPOINT_PATTERN", "EndpointName", "base_of", "is_endpoint_name", "version_name", "version_of"]

ENDPOINT_PATTERN = r"[a-z][a-z0-9_-]{0,47}(\.v([2-9]|[1-9][0-9]{1,2}))?"
"""Unanchored, for patterns that hold a name; all of it has at most 48 characters."""

EndpointName = Annotated[str, StringConstraints(pattern=f"^{ENDPOINT_PATTERN}$", max_length=48)]
"""A slug, and for versions 2 to 999 their number: `credit`, `credit.v2`; at most 48 characters."""

_NAME = re.compile(ENDPOINT_PATTERN)
_MAX_LENGTH = 48
_MAX_VERSION = 999


def is_endpoint_name(text: str) -> bool:
    """Whether `text` can name an endpoint.

    >>> [is_endpoint_name(n) for n in ("credit", "credit.v2", "credit.v1", "credit.2", "Credit")]
    [True, True, False, False, False]
    """
    return len(text) <= _MAX_LENGTH and _NAME.fullmatch(text) is not None


def base_of(name: str) -> str:
    """The part that is claimed, transferred and retired as one.

    >>> base_of("credit.v2"), base_of("credit")
    ('credit', 'credit')
    """
    return name.partition(".")[0]


def version_of(name: str) -> int:
    """1 for the base itself.

    >>> version_of("credit.v12"), version_of("credit")
    (12, 1)
    """
    return int(name.partition(".v")[2] or 1)


def version_name(base: str, version: int) -> str:
    """The endpoint of a version. Raises Invalid where the name would be too long, or the number too high.

    >>> version_name("credit", 2), version_name("credit", 1)
    ('credit.v2', 'credit')
    """
    name = base if version == 1 else f"{base}.v{version}"
    if version > _MAX_VERSION or len(name) > _MAX_LENGTH:
        raise Invalid(f"'{name}' cannot be a version's name.", "Names have 48 characters at most: use a shorter one.")
    return name
