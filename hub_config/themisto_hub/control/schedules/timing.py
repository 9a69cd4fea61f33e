"""When a cron is due next: five fields read on a wall clock that daylight saving moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

__all__ = ["latest_due", "next_due"]

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)


def next_due(cron: str, tz: str, after: datetime) -> datetime:
    """The first moment later than `after` at which `cron` is due in `tz`.

    A wall-clock time that does not exist is due at the next one that does; one that comes twice is
    due the first time only. Moments are in UTC, so that two skipped times are one moment.
    """
    zone = ZoneInfo(tz)
    times = croniter(cron, after.astimezone(zone).replace(tzinfo=None))
    while True:
        due = _moment(times.get_next(datetime), zone)
        if due > after:
            return due


def latest_due(cron: str, tz: str, since: datetime, now: datetime) -> datetime:
    """The last moment at which `cron` was due, of those from `since` (itself one) up to `now`."""
    recent = next_due(cron, tz, now - _DAY)
    due = recent if since < recent <= now else since
    while (later := next_due(cron, tz, due)) <= now:
        due = later
    return due


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which clocks in `zone` first show `wall`, or the next minute that they do show."""
    while True:
        moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == wall:
            return moment
        wall += _MINUTE
