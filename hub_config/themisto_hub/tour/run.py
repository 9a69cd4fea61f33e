"""`themisto tour`: a fresh workbench, the front door, the notebooks, a table; then nothing is left running."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from themisto.errors import Failed, NotFound, ThemistoError
from themisto_hub.tour.house import House
from themisto_hub.tour.notebook import run_notebook
from themisto_hub.tour.people import People
from themisto_hub.tour.report import Report, Stage

__all__ = ["tour"]

_STATE = Path("build/tour/state")
_OUTPUTS = Path("build/tour/notebooks")


def tour(notebooks: list[Path], report_file: Path) -> int:
    """Run `notebooks` (default: all of notebooks/, in order of their names); 0 if all is as it must be.

    Stops at the first thing that is not, says which, and leaves nothing running either way.
    """
    files = notebooks or sorted(Path("notebooks").glob("0*.ipynb"))
    missing = [str(f) for f in files if not f.exists()]
    if missing or not files:
        raise NotFound(f"No such notebook: {', '.join(missing) or 'notebooks/'}.", "Name files relative to here.")
    report = Report(report_file)
    house = House(_STATE)
    where = "start"
    try:
        _stage(report, "start", lambda: _start(house))
        people = People(house)
        where = "log in"
        _stage(report, where, lambda: _front_door(people))
        _OUTPUTS.mkdir(parents=True, exist_ok=True)
        for file in files:
            where = file.stem
            _stage(report, where, lambda file=file: run_notebook(file, _OUTPUTS / file.name, people))  # type: ignore[misc]
        where = "stop"
        _stage(report, where, lambda: _stop(house))
    except (ThemistoError, KeyboardInterrupt) as error:
        reason = str(error) or "interrupted"
        print(f"\nthemisto tour: {where}: {reason}", file=sys.stderr, flush=True)
        print(f"Logs: {_STATE / 'logs'}; notebooks as they ran: {_OUTPUTS}", file=sys.stderr, flush=True)
        report.write("failed", f"{where}: {reason}")
        return 1
    finally:
        house.stop()
    report.write("passed")
    report.show()
    return 0


def _stage(report: Report, name: str, work: Callable[[], list[str]]) -> None:
    began = time.monotonic()
    verified = work()
    report.add(Stage(name=name, seconds=round(time.monotonic() - began, 1), verified=tuple(verified)))


def _start(house: House) -> list[str]:
    told = house.start()
    ready = [line.partition(" ready after")[0] for line in told if " ready after" in line]
    isolation = next(
        (line for line in told if line.startswith("One trust domain")), "own uid, mounts and limits for all"
    )
    return [f"{len(ready)} processes under one supervisor: {', '.join(sorted(ready))}", isolation]


def _front_door(people: People) -> list[str]:
    first = people.first
    seen = first.log_in()
    hidden = sorted(people.all_profiles - set(seen))
    refusal = first.forge_profile(hidden[0]) if hidden else "all profiles are open to her"
    return [
        f"{first.name} logged in through OIDC (PKCE) as a member of {', '.join(first.groups)}",
        f"her profiles: {', '.join(seen)}; not shown: {', '.join(hidden) or 'none'}",
        f"asking for a hidden one is refused: {refusal}",
    ]


def _stop(house: House) -> list[str]:
    house.stop()
    left = house.left_running()
    if left:
        raise Failed(f"Still running after the stop: {', '.join(left[:5])}.", "This is a fault of the supervisor.")
    return ["every process ended, every port is free"]
