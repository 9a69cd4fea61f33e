"""`%schedule`: the line to one call of the service, and its answer to a display."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from IPython.core.magic import magics_class

from themisto.magic import LineParser, VerbMagics, key_values
from themisto.schedules.display import JobCard, JobTable, ScheduleCard, ScheduleTable
from themisto.types import Json

__all__ = ["MAGICS", "ScheduleMagics"]

_VERBS = ("list", "run", "pause", "resume", "jobs", "rm")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; write 90s, 30m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _values(pairs: Iterable[str]) -> dict[str, Json]:
    """K=V with V read as JSON where it is some (`trees=30`), as text where not."""
    return {name: _value(text) for name, text in key_values(pairs).items()}


def _value(text: str) -> Json:
    try:
        value: Json = json.loads(text)
    except ValueError:
        return text
    return value


def _create(magics: ScheduleMagics, args: argparse.Namespace, _: str | None) -> ScheduleCard:
    schedule = magics.wb.schedules.create(
        args.notebook,
        cron=args.cron,
        tz=args.tz,
        profile=args.profile,
        parameters=_values(args.p),
        files=args.files,
        retries=args.retries,
        timeout_s=args.timeout,
        name=args.name,
    )
    return ScheduleCard(schedule)


def _remove(magics: ScheduleMagics, args: argparse.Namespace, _: str | None) -> None:
    magics.wb.schedules.remove(args.name)
    print(f"The schedule {args.name} is gone, with its jobs and their outputs.")


Handler = Callable[["ScheduleMagics", argparse.Namespace, str | None], Any]
_HANDLERS: Mapping[str, tuple[Handler, str]] = {
    "list": (lambda m, _a, _c: ScheduleTable(m.wb.schedules.list()), "the schedules of your groups"),
    "run": (lambda m, a, _c: JobCard(m.wb.schedules.run(a.name)), "run it once, now"),
    "pause": (lambda m, a, _c: ScheduleCard(m.wb.schedules.pause(a.name)), "fire no more until resumed"),
    "resume": (lambda m, a, _c: ScheduleCard(m.wb.schedules.resume(a.name)), "fire again"),
    "jobs": (lambda m, a, _c: JobTable(a.name, m.wb.schedules.jobs(a.name)), "how it went, newest first"),
    "rm": (_remove, "forget it, with its jobs and their outputs"),
}


def _verbs() -> LineParser:
    parser = LineParser("%schedule", description="See and steer schedules.")
    verbs = parser.add_subparsers(required=True, parser_class=LineParser)
    for name in _VERBS:
        handler, words = _HANDLERS[name]
        verb = verbs.add_parser(name, help=words, description=words)
        verb.set_defaults(handler=handler)
        if name != "list":
            verb.add_argument("name", help="the schedule's name")
    return parser


def _new() -> LineParser:
    parser = LineParser(
        "%schedule",
        description="Run a notebook by itself, as it is now, on a cron.",
        epilog=f"Or: %schedule {' | '.join(_VERBS)}",
    )
    parser.add_argument("notebook", help="the notebook's file; save it first")
    parser.add_argument("--cron", required=True, help='five fields, e.g. "0 2 * * *" is two at night')
    parser.add_argument("--tz", default="UTC", help="IANA time zone the cron is read in; default UTC")
    parser.add_argument("--profile", help="compute shape; default: the cheapest for jobs")
    parser.add_argument("-p", action="append", default=[], metavar="K=V", help="a value for the parameters cell")
    parser.add_argument("--with", dest="files", action="append", default=[], metavar="FILE", help="goes along")
    parser.add_argument("--retries", type=int, default=0, metavar="N", help="tries again after a failure")
    parser.add_argument("--timeout", type=_duration, metavar="2h", help="each try at most so long; default 6h")
    parser.add_argument("--name", help="default: the notebook's")
    parser.set_defaults(handler=_create)
    return parser


_NEW, _STEER = _new(), _verbs()


@magics_class
class ScheduleMagics(VerbMagics):
    """`%schedule NOTEBOOK --cron …` and `%schedule list | run | pause | resume | jobs | rm`."""

    @property
    def parsers(self) -> Mapping[str, Sequence[LineParser]]:
        return {"schedule": (_NEW, _STEER)}

    def schedule(self, line: str, cell: str | None = None) -> Any:
        """Run a notebook on a cron."""
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        return self.answer(_STEER if first in _VERBS else _NEW, line, cell)

    def complete(self, name: str, words: Sequence[str]) -> Iterable[str]:
        """Subcommands, notebooks, schedules and profiles."""
        del name
        before = words[-2] if len(words) > 1 else ""
        if len(words) < 2:
            return [*_VERBS, *(str(p) for p in Path().glob("*.ipynb"))]
        if before in _VERBS:
            return [s.name for s in self.wb.schedules.list()]
        if before == "--profile":
            profiles: Any = self.wb.control.get("profiles")
            return [p["name"] for p in profiles if "job" in p["uses"]]
        return ["--cron", "--tz", "--profile", "-p", "--with", "--retries", "--timeout", "--name"]


MAGICS = ScheduleMagics
