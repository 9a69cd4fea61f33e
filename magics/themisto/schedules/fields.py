"""Text that means something to a schedule: a cron, a time zone, a parameter's name, each checked."""

from __future__ import annotations

import keyword
import re
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

__all__ = ["Cron", "ParameterName", "ZoneName"]

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAYS = "sun|mon|tue|wed|thu|fri|sat"
_FIELD = re.compile(rf"(?:\*|\d{{1,2}}|{_MONTHS}|{_DAYS}|[,/-])+", re.IGNORECASE)


def _cron(text: str) -> str:
    fields = text.split()
    if len(fields) != 5 or not all(_FIELD.fullmatch(field) for field in fields):
        raise ValueError("five fields are needed: minute hour day month weekday, e.g. '0 2 * * *'")
    try:
        from croniter import CroniterBadDateError, CroniterError, croniter
    except ImportError:  # a client without it leaves the rest to the control plane
        return " ".join(fields)
    try:
        croniter(text).get_next()
    except CroniterBadDateError:
        raise ValueError("no day is like that") from None
    except CroniterError as error:
        raise ValueError(str(error)) from None
    return " ".join(fields)


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone; write an IANA name, e.g. Asia/Seoul") from None
    return name


def _not_keyword(name: str) -> str:
    if keyword.iskeyword(name):
        raise ValueError(f"'{name}' is a word of Python")
    return name


Cron = Annotated[str, AfterValidator(_cron)]
"""Five fields (minute hour day month weekday); numbers, names, `*`, lists, ranges and steps."""

ZoneName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$"), AfterValidator(_zone)]
"""IANA time zone."""

ParameterName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"), AfterValidator(_not_keyword)
]
"""A Python identifier: papermill writes the names into code."""
