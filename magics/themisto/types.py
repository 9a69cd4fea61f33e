"""Types that every noun is made of: the frozen model, names, digests, times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic import JsonValue as Json
from ulid import ULID

__all__ = [
    "Identifier",
    "Json",
    "Model",
    "Number",
    "Sha256",
    "Slug",
    "Ulid",
    "UserName",
    "UtcTime",
    "new_ulid",
    "utcnow",
]


class Model(BaseModel):
    """A frozen noun. Unknown fields are refused: a typo is an error, not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,47}$")]
"""Name of an endpoint, schedule, profile, group: lower case, digits, `-`, `_`; 1 to 48 characters."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
"""Name that is also a column or a CQL/SQL identifier: lower case, digits, `_`; 1 to 48 characters."""

UserName = Annotated[str, StringConstraints(pattern=r"^[^\s/\\\x00-\x1f]{1,120}$")]
"""A person's name at the hub."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Hexadecimal SHA-256."""

Ulid = Annotated[str, StringConstraints(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
"""Sortable unique id (https://github.com/ulid/spec)."""

Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A count that any database keeps."""


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the last hours of the year 9999, west of Greenwich
        msg = "a moment outside the years 1 to 9999"
        raise ValueError(msg) from None


UtcTime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""Timezone-aware moment, kept in UTC."""


def new_ulid() -> str:
    """A fresh ULID."""
    return str(ULID())


def utcnow() -> datetime:
    """The moment, in UTC. Servers take their clock as a parameter that defaults to this."""
    return datetime.now(UTC)
