"""What the nouns of features share: definitions, times and names as a person writes them, and what is wrong, told."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import ValidationError

from themisto.errors import Invalid, did_you_mean
from themisto.types import Model, Sha256, utcnow

__all__ = ["Noun", "fields_of", "listed", "moment", "seconds", "split_ref"]

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(duration: str | float | timedelta | None) -> float | None:
    """A duration in seconds: `"3h"`, `"90m"`, `"7d"`, a number of seconds or a timedelta.

    >>> seconds("3h")
    10800.0
    """
    if duration is None:
        return None
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, int | float):
        return float(duration)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", duration.strip())
    if found is None:
        raise Invalid(f"'{duration}' is no duration.", "Write a number and a unit: 90s, 30m, 3h, 7d or 2w.")
    return float(found[1]) * _UNITS[found[2]]


def moment(value: datetime | str | None) -> datetime | None:
    """A moment in UTC from an ISO 8601 text, a datetime, or an age such as `"7d"`. Naive ones are read as UTC."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    try:
        return moment(datetime.fromisoformat(value))
    except ValueError:
        return utcnow() - timedelta(seconds=_age(value))


def _age(text: str) -> float:
    try:
        return seconds(text) or 0.0
    except Invalid:
        raise Invalid(f"'{text}' is no time.", "Write 2013-06-01, 2013-06-01T12:00 or an age such as 7d.") from None


def split_ref(ref: str) -> tuple[str, int | None]:
    """`"delay@3"` as name and version; without `@` the version is None, the newest.

    >>> split_ref("delay@3"), split_ref("delay")
    (('delay', 3), ('delay', None))
    """
    name, sign, version = ref.partition("@")
    if sign and not (version.isascii() and version.isdigit() and int(version) > 0):
        raise Invalid(f"'{ref}' is not NAME@VERSION.", "Write for example flight_delay@2, or only the name.")
    return name, int(version) if sign else None


class Noun(Model):
    """A model a person builds by hand: what is wrong with it is told in one sentence."""

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise _told(type(self), error) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # validation of JSON must not come here

    SAID: ClassVar[dict[str, Any]] = {}
    """Fields that only say something about it: as pydantic's `exclude`. Changing them makes no new version."""

    def content_hash(self) -> Sha256:
        """SHA-256 over the definition without its version and what is only said of it: same content, same version."""
        content = self.model_dump(mode="json", exclude=self.SAID, exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fields_of(entity: Any, of: str) -> dict[str, Any]:
    """An entity's fields, as JSON has them. Raises Invalid for what is none, such as its name."""
    if isinstance(entity, Mapping):
        return dict(entity)
    raise Invalid(f"{of}: {entity!r:.60} is no Entity.", "Make one: entity=themisto.Entity(NAME, keys=[COLUMN]).")


def listed(given: Any) -> Any:
    """One where several may be, as several: a text is a name, not its letters."""
    return [given] if isinstance(given, str | Noun) else given


_SAYS = {
    "greater_than": "is {input}, and must be more than {gt}",
    "greater_than_equal": "is {input}, and must be at least {ge}",
    "less_than_equal": "is {input}, and may be at most {le}",
    "too_short": "names nothing",
    "too_long": "has {actual_length}, and may have {max_length}",
    "missing": "is missing",
}
"""What is wrong with a field, by pydantic's name for it; its own words for the rest."""


def _told(kind: type[Noun], error: ValidationError) -> Invalid:
    first, noun = error.errors()[0], kind.__name__
    where = ".".join(str(part) for part in first["loc"]) or "definition"
    given = first["input"]
    if first["type"] == "string_pattern_mismatch":
        return Invalid(
            f"{noun}: {where} '{str(given)[:60]}' is no identifier.",
            "Use lower-case letters, digits and '_', a letter first, at most 48 characters.",
        )
    help_ = f"See help(themisto.{noun})."
    if first["type"] == "extra_forbidden":
        known = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "said")]
        return Invalid(f"{noun} has no '{where}'.", did_you_mean(where, {*known, *kind.model_fields}, help_))
    says = _SAYS.get(first["type"])
    if says is not None:
        remedy = "Leave it out where there is no limit." if where.endswith("_s") else help_
        told = {"input": given, **first.get("ctx", {})}
        said = says.format(**{k: f"{v:.15g}" if isinstance(v, float) else v for k, v in told.items()})
        return Invalid(f"{noun}: {where.removesuffix('_s')} {said}.", remedy)
    return Invalid(f"{noun}: {where}: {first['msg']}.", help_)
