"""When a cron is due, in zones whose clocks jump."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from themisto.schedules.fields import Cron, ParameterName, ZoneName
from themisto_hub.control.schedules.timing import latest_due, next_due


def dues(cron: str, tz: str, after: str, count: int) -> list[str]:
    moment, found = datetime.fromisoformat(after), []
    for _ in range(count):
        moment = next_due(cron, tz, moment)
        found.append(moment.astimezone(UTC).strftime("%m-%dT%H:%M"))
    return found


def test_a_time_that_daylight_saving_skips_runs_once_at_the_next_valid_minute() -> None:
    # New York, 2026-03-08: 02:00 EST becomes 03:00 EDT, which is 07:00 UTC.
    assert dues("30 2 * * *", "America/New_York", "2026-03-07T12:00Z", 2) == ["03-08T07:00", "03-09T06:30"]


def test_several_skipped_times_are_one_run() -> None:
    found = dues("*/20 * * * *", "America/New_York", "2026-03-08T06:30Z", 3)
    assert found == ["03-08T06:40", "03-08T07:00", "03-08T07:20"]


def test_a_time_that_comes_twice_runs_the_first_time_only() -> None:
    # New York, 2026-11-01: 01:30 comes at 05:30 UTC (EDT) and again at 06:30 UTC (EST).
    assert dues("30 1 * * *", "America/New_York", "2026-10-31T12:00Z", 2) == ["11-01T05:30", "11-02T06:30"]


def test_a_day_that_a_zone_left_out_runs_when_the_next_one_begins() -> None:
    # Samoa had no 2011-12-30.
    assert dues("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00Z", 1) == ["12-30T10:00"]


def test_a_zone_without_daylight_saving() -> None:
    assert dues("0 2 * * *", "Asia/Seoul", "2026-11-21T00:00Z", 2) == ["11-21T17:00", "11-22T17:00"]


@pytest.mark.parametrize(("since", "due"), [("2026-01-01T00:00Z", "02-01T11:50"), ("2026-02-01T11:50Z", "02-01T11:50")])
def test_of_missed_firings_only_the_last_counts(since: str, due: str) -> None:
    now = datetime(2026, 2, 1, 12, 0, tzinfo=UTC).replace(hour=11, minute=55)
    found = latest_due("*/10 * * * *", "UTC", datetime.fromisoformat(since), now)
    assert found.strftime("%m-%dT%H:%M") == due


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "*/17 * * * *", "0 */3 * * mon-fri", "59 1 1 * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - hypothesis wants naive bounds
)
def test_dues_always_move_forward_and_never_share_a_wall_clock_time(cron: str, tz: str, start: datetime) -> None:
    from zoneinfo import ZoneInfo

    moment, found = start.replace(tzinfo=UTC), []
    for _ in range(6):
        moment = next_due(cron, tz, moment)
        found.append(moment)
    assert all(a < b for a, b in pairwise(found))
    walls = [m.astimezone(ZoneInfo(tz)).replace(tzinfo=None) for m in found]
    assert len(set(walls)) == len(walls)


@pytest.mark.parametrize(
    "text", ["", "61 * * * *", "* * * *", "0 2 * * * *", "@daily", "0 0 31 2 *", "R * * * *", "*/0 * * * *", "now"]
)
def test_what_is_no_cron_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Cron).validate_python(text)


@pytest.mark.parametrize("name", ["Mars/Base", "../../etc/passwd", "", "Asia/Seoul\n"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ZoneName).validate_python(name)


@pytest.mark.parametrize("name", ["a b", "a\nimport os", "1a", "for", "a=1", "é", "a;b", ""])
def test_a_parameter_name_that_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ParameterName).validate_python(name)
