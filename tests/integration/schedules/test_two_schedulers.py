"""Two schedulers on one database, on both kinds of database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes.schedule_house import SCIENTIST, ScheduleHouse

from themisto.schedules.models import JobReport
from themisto_hub.control.schedules.scheduler import Scheduler


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ScheduleHouse]:
    database = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else None
    made = ScheduleHouse(tmp_path, database)
    yield made
    made.control.close()


def test_two_schedulers_never_run_one_firing_twice(house: ScheduleHouse) -> None:
    house.create(cron="*/5 * * * *")
    house.create(name="other", cron="*/5 * * * *")
    controls = [house.another() for _ in range(2)]
    schedulers = [Scheduler(c, house.schedules.files) for c in controls]
    for _ in range(4):
        house.now += timedelta(minutes=5)
        barrier = threading.Barrier(2)

        def work(scheduler: Scheduler, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            scheduler.fire()
            scheduler.start()

        threads = [threading.Thread(target=work, args=(s,)) for s in schedulers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in ("nightly", "other"):
            job = house.schedules.jobs(SCIENTIST, name, limit=1, after=None)[0]
            server = next(
                n
                for n in reversed(house.servers)
                if house.hub.asked[house.servers.index(n)][2]["display_name"] == f"job {name}"
            )
            caller = SCIENTIST.model_copy(update={"server": server})
            house.reports.mine(caller)
            house.reports.report(caller, job.id, JobReport(state="succeeded", seconds=1))
    for control in controls:
        control.close()
    assert len(house.servers) == 8
    for name in ("nightly", "other"):
        dues = [j.due_at for j in house.schedules.jobs(SCIENTIST, name, limit=50, after=None)]
        assert len(dues) == len(set(dues)) == 4


def test_the_way_of_a_job_is_the_same_on_both(house: ScheduleHouse) -> None:
    house.create(retries=1)
    house.round(hours=15)
    house.report("failed", failed_cell=6, error="cell 7 raised ValueError: no")
    house.round(minutes=1)
    house.report("succeeded")
    house.round()
    assert (house.job.state, house.job.attempt) == ("succeeded", 2)
    house.schedules.remove(SCIENTIST, "nightly")
    assert house.schedules.page(SCIENTIST, limit=10, after=None) == []
