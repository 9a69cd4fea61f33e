"""Rounds of the scheduler over a real database, with a hub that does what the test says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.schedule_house import ADMIN, COLLEAGUE, REVIEWER, SCIENTIST
from tests.fakes.schedule_house import ScheduleHouse as House

from themisto.errors import Conflict, Failed, NotFound, Refused, Unavailable
from themisto.schedules.models import JobReport


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.control.close()


def test_a_due_schedule_starts_a_server_of_its_owner_on_the_profile(house: House) -> None:
    house.create()
    house.round()
    assert house.servers == []
    house.round(hours=14)
    ((owner, name, options),) = house.hub.asked
    assert owner == "scientist"
    assert name.startswith("job-")
    assert len(name) <= 30
    assert options["user_options"] == {"profile": "job-small", "group": "data-science"}
    assert house.job.state == "starting"


def test_a_job_that_succeeds_has_its_server_stopped(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.report("succeeded", run_ids=("a" * 32,))
    house.round()
    assert house.job.state == "succeeded"
    assert house.job.run_ids == ("a" * 32,)
    assert house.hub.stopped == house.servers
    assert house.actions() == ["schedule.create", "schedule.run", "job.start", "job.end"]


def test_firings_missed_while_nobody_looked_are_one_job(house: House) -> None:
    house.create(cron="*/5 * * * *")
    house.round(hours=3, minutes=2)
    jobs = house.schedules.jobs(SCIENTIST, "nightly", limit=50, after=None)
    assert [j.due_at for j in jobs] == [datetime(2026, 5, 4, 15, 0, tzinfo=UTC)]


def test_a_refusal_by_the_hub_pauses_the_schedule_with_its_reason(house: House) -> None:
    house.create()
    house.hub.refusal = Refused("The hub says: the identity provider no longer vouches for scientist")
    house.round(hours=15)
    assert house.job.state == "failed"
    schedule = house.schedules.get(SCIENTIST, "nightly")
    assert schedule.paused
    assert "no longer vouches" in str(schedule.paused_reason)
    house.hub.refusal = None
    house.round(days=2)
    assert house.servers == []
    house.schedules.resume(SCIENTIST, "nightly")
    house.round(days=1)
    assert len(house.servers) == 1


def test_an_identity_provider_that_is_down_is_asked_again(house: House) -> None:
    house.create()
    house.hub.refusal = Unavailable("The hub says: the identity provider does not answer")
    house.round(hours=15)
    assert house.job.state == "queued"
    assert "identity provider" in house.job.message
    house.hub.refusal = None
    house.round(seconds=2)
    assert house.servers == [], "not before the pause is over"
    house.round(seconds=20)
    assert house.job.state == "starting"
    assert not house.schedules.get(SCIENTIST, "nightly").paused


def test_a_job_put_off_for_a_day_is_given_up(house: House) -> None:
    house.create()
    house.hub.refusal = Unavailable("The hub says: later")
    house.schedules.run(SCIENTIST, "nightly")
    house.scheduler.start()
    house.now += timedelta(hours=25)
    house.scheduler.start()
    assert house.job.state == "failed"
    assert "given up" in house.job.message


def test_a_failed_try_is_run_again_on_a_new_server_as_often_as_told(house: House) -> None:
    house.create(retries=2)
    house.schedules.run(SCIENTIST, "nightly")
    for attempt in (1, 2, 3):
        house.round(minutes=6)
        assert house.job.attempt == attempt
        house.report("failed", failed_cell=6, error="ValueError: no", traceback="Traceback…")
    house.round(minutes=6)
    assert len(set(house.servers)) == 3
    assert house.job.state == "failed"
    assert house.job.failed_cell == 6
    assert house.job.traceback == "Traceback…"
    assert house.job.message == "ValueError: no"


def test_a_job_whose_server_vanished_is_lost_and_run_again(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.reports.mine(house.server())
    house.hub.vanish("scientist", house.servers[-1])
    house.round(seconds=5)
    assert house.job.state == "queued"
    assert "lost" in house.job.message
    house.round(minutes=6)
    house.hub.vanish("scientist", house.servers[-1])
    house.round(seconds=5)
    assert house.job.state == "lost"
    assert house.job.attempt == 2


def test_nothing_is_lost_while_the_hub_is_down(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.reports.mine(house.server())
    house.hub.down = Unavailable("The hub does not answer.")
    house.round(minutes=30)
    assert house.job.state == "running"


def test_a_server_that_never_asks_for_its_task_is_lost(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.round(minutes=4)
    assert house.job.state == "starting"
    house.round(minutes=4)
    assert "never asked" in house.job.message


def test_a_scheduler_killed_while_it_asked_for_the_server_loses_nothing(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    list(house.scheduler._take())  # taken, and then the process died
    house.round(minutes=1)
    assert house.job.state == "starting", "held by whoever took it"
    house.round(minutes=3)
    house.round(minutes=6)
    assert house.job.state == "starting"
    assert house.job.attempt == 2
    assert len(house.servers) == 1


def test_a_job_over_its_time_is_ended_and_its_server_stopped(house: House) -> None:
    house.create(timeout_s=60)
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.reports.mine(house.server())
    house.round(seconds=61)
    assert house.job.state == "failed"
    assert "longer than 60 s" in house.job.message
    assert house.hub.stopped == house.servers


def test_a_server_that_does_not_start_is_a_failed_try(house: House) -> None:
    house.create()
    house.hub.refusal = Failed("The hub says: the server ended at once")
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    assert house.job.state == "failed"
    assert "ended at once" in house.job.message


def test_of_one_schedule_one_job_runs_at_a_time(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.now += timedelta(seconds=1)
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.round()
    assert len(house.servers) == 1


def test_a_stopped_server_is_tried_until_the_hub_has_stopped_it(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.report("succeeded")
    house.hub.down = Unavailable("The hub does not answer.")
    house.round()
    assert house.hub.stopped == []
    house.hub.down = None
    house.round()
    assert house.hub.stopped == house.servers


@pytest.mark.parametrize("server", [None, "", "job-another"])
def test_only_the_jobs_own_server_gets_its_task(house: House, server: str | None) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    with pytest.raises(NotFound):
        house.reports.mine(house.server(server=server))
    with pytest.raises(NotFound):
        house.reports.mine(house.server(name="colleague"))


def test_a_job_whose_owner_may_schedule_no_more_is_refused_and_pauses(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    with pytest.raises(Refused):
        house.reports.mine(house.server(groups=("model-risk",)))
    assert house.job.state == "failed"
    assert "not schedule for data-science any more" in str(house.schedules.get(SCIENTIST, "nightly").paused_reason)


def test_a_late_report_of_an_ended_try_is_refused(house: House) -> None:
    house.create(timeout_s=60)
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    caller = house.server()
    house.reports.mine(caller)
    house.round(seconds=61)
    with pytest.raises(NotFound):
        house.reports.report(caller, house.job.id, JobReport(state="succeeded", seconds=70))


def test_the_owners_schedule_is_changed_by_creating_it_again(house: House) -> None:
    house.create()
    house.create(cron="0 3 * * *")
    assert house.schedules.get(SCIENTIST, "nightly").cron == "0 3 * * *"
    with pytest.raises(Conflict):
        house.create(COLLEAGUE)


def test_the_group_steers_it_and_nobody_else_sees_it(house: House) -> None:
    house.create()
    assert house.schedules.pause(COLLEAGUE, "nightly").paused_reason == "paused by colleague"
    with pytest.raises(NotFound):
        house.schedules.get(REVIEWER, "nightly")
    assert house.schedules.page(REVIEWER, limit=10, after=None) == []
    assert not house.schedules.resume(ADMIN, "nightly").paused


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"group": "model-risk"}, Refused, "not in the group"),
        ({"profile": "nothing"}, NotFound, "There is no profile 'nothing'"),
        ({"profile": "cpu-small"}, Refused, "not for jobs"),
        ({"snapshot_sha256": "1" * 64}, NotFound, "There is no snapshot"),
    ],
)
def test_what_may_not_be_scheduled_is_refused(house: House, changes: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        house.create(**changes)


def test_a_removed_schedule_takes_its_jobs_and_servers_with_it(house: House) -> None:
    house.create()
    house.schedules.run(SCIENTIST, "nightly")
    house.round()
    house.schedules.remove(COLLEAGUE, "nightly")
    house.round()
    assert house.hub.stopped == house.servers
    with pytest.raises(NotFound):
        house.schedules.get(SCIENTIST, "nightly")
