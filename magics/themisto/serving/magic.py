"""`%%deploy` and `%deploy`: parse the line, call the service, show its answer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from IPython.core.magic import magics_class

from themisto.errors import ThemistoError
from themisto.magic import LineParser, VerbMagics
from themisto.serving import display
from themisto.serving.cell_magic import CELL
from themisto.serving.gates_display import GatesCard
from themisto.serving.observing_magic import VERBS, add_arguments

__all__ = ["MAGICS", "DeployMagics"]


@magics_class
class DeployMagics(VerbMagics):
    """`%%deploy ENDPOINT --sample VAR …` deploys the cell's last value; `%deploy VERB ENDPOINT` asks and moves."""

    @property
    def parsers(self) -> Mapping[str, Sequence[LineParser]]:
        return {"deploy": (_LINE, CELL)}

    def deploy(self, line: str, cell: str | None = None) -> Any:
        return self.answer(_LINE if cell is None else CELL, line, cell)

    def complete(self, name: str, words: Sequence[str]) -> Iterable[str]:
        return _complete(self, words)


def _status(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    if args.endpoint is None:
        return display.endpoints(magics.wb.serving.endpoints())
    return display.endpoint_card(magics.wb.serving.status(args.endpoint))


def _diff(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.Difference(magics.wb.serving.diff(args.endpoint))


def _test(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.replayed(magics.wb.serving.test(args.endpoint))


def _promote(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.promote(args.endpoint))


def _step(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.step(args.endpoint))


def _pause(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.pause(args.endpoint, reason=args.reason))


def _resume(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.resume(args.endpoint))


def _rollback(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.rollback(args.endpoint, reason=args.reason))


def _approve(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.ReviewLink(args.endpoint, magics.wb.serving.review_url(args.endpoint))


def _gates(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    magics.wb.serving.status(args.endpoint)
    gates = magics.wb.serving.gates
    if args.unpin:
        gates.unpin(args.endpoint)
    elif args.pin:
        gates.pin(args.endpoint, args.gate)
    return GatesCard(magics.wb.serving.status(args.endpoint), gates.retraining(args.endpoint))


def _retrain(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    magics.wb.serving.status(args.endpoint)
    gates = magics.wb.serving.gates
    if args.off:
        gates.retrain_off(args.endpoint)
    elif args.schedule:
        gates.retrain(args.endpoint, args.schedule, on=args.on or ["gate"], cooldown_h=args.cooldown)
    elif args.drifted:
        gates.drifted(args.endpoint, args.drifted)
    return GatesCard(magics.wb.serving.status(args.endpoint), gates.retraining(args.endpoint))


def _retire(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.retire(args.endpoint, force=args.force))


def _claim(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.ownership.claim(args.endpoint))


def _transfer(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    if args.withdraw:
        return display.endpoint_card(magics.wb.serving.ownership.withdraw(args.endpoint))
    return display.endpoint_card(magics.wb.serving.ownership.transfer(args.endpoint, args.to))


def _accept(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.endpoint_card(magics.wb.serving.ownership.accept(args.endpoint))


def _free(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> None:
    magics.wb.serving.ownership.free(args.endpoint)


def _callers(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.callers(magics.wb.serving.ownership.callers(args.endpoint, days=args.days), args.days)


def _releases(magics: DeployMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.releases(magics.wb.serving.releases(args.endpoint))


_LINE = LineParser("%deploy", description="Ask about endpoints and move traffic.")
_verbs = _LINE.add_subparsers(
    required=True,
    metavar="status | diff | gates | retrain | test | step | pause | resume | promote | rollback | approve | releases"
    " | callers | claim | transfer | accept | retire | free | " + " | ".join(VERBS),
)
_VERBS: dict[str, tuple[Callable[..., Any], str]] = {
    "status": (_status, "what answers; without a name, all endpoints"),
    "diff": (_diff, "the candidate against stable, as the approver sees it"),
    "gates": (_gates, "how the gates were decided, and what every release must pass"),
    "retrain": (_retrain, "the schedule to run when the model has become too bad"),
    "test": (_test, "replay the golden requests through the gateway"),
    "step": (_step, "the next share of the traffic to the candidate, by hand"),
    "pause": (_pause, "the rollout stays at its share until a person goes on; a breach still goes back"),
    "resume": (_resume, "the rollout takes its steps by itself again"),
    "promote": (_promote, "all traffic to the candidate"),
    "rollback": (_rollback, "end the rollout, or bring the earlier release back"),
    "approve": (_approve, "the page on which another person approves"),
    "releases": (_releases, "all releases, newest first"),
    "callers": (_callers, "who called which version, and when last"),
    "claim": (_claim, "reserve the name for your group, before there is a release"),
    "transfer": (_transfer, "offer the name and its versions to another group"),
    "accept": (_accept, "take over a name that was offered to your group"),
    "retire": (_retire, "nothing answers any more; the name stays your group's"),
    "free": (_free, "admins: give a name back that was retired long ago"),
    **VERBS,
}
for _name, (_handler, _help) in _VERBS.items():
    _parser = _verbs.add_parser(_name, help=_help)
    _parser.add_argument("endpoint", metavar="ENDPOINT", nargs="?" if _name == "status" else None)
    _parser.set_defaults(handler=_handler)
    if _name in ("rollback", "pause"):
        _parser.add_argument("--reason", default="", help="kept in the audit chain")
    if _name == "gates":
        _pins = _parser.add_mutually_exclusive_group()
        _pins.add_argument("--pin", action="store_true", help="every later release must pass the newest one's gates")
        _pins.add_argument("--unpin", action="store_true", help="recorded, and shown to the next approver")
        _parser.add_argument("--gate", action="append", default=[], metavar="GATE", help="what --pin pins instead")
    if _name == "retrain":
        _does = _parser.add_mutually_exclusive_group()
        _does.add_argument("--schedule", metavar="NAME", help="its notebook trains and deploys: %%schedule list")
        _does.add_argument("--drifted", metavar="REASON", help="report drift that you saw")
        _does.add_argument("--off", action="store_true", help="run nothing by itself")
        _parser.add_argument("--on", action="append", choices=["gate", "drift"], help="default: gate")
        _parser.add_argument("--cooldown", type=float, default=24.0, metavar="HOURS", help="at most once in so long")
    if _name == "retire":
        _parser.add_argument("--force", action="store_true", help="though it was called in the last seven days")
    if _name == "callers":
        _parser.add_argument("--days", type=int, default=30)
    if _name == "transfer":
        _to = _parser.add_mutually_exclusive_group(required=True)
        _to.add_argument("--to", metavar="GROUP", help="which of its members accepts: %%deploy accept ENDPOINT")
        _to.add_argument("--withdraw", action="store_true", help="take the offer back")
    add_arguments(_name, _parser)


def _complete(magics: DeployMagics, words: Sequence[str]) -> Iterable[str]:
    """Candidates for the last word, which is still being typed."""
    done = list(words[:-1])
    before = done[-1] if done else ""
    values: dict[str, Callable[[], Iterable[str]]] = {
        "--sample": lambda: _frames(magics),
        "--metric": lambda: _frames(magics),
        "--holdout": lambda: ["same", *_frames(magics)],
        "--features": lambda: [s.name for s in magics.wb.features.list()[1]],
        "--profile": lambda: [str(row["profile"]) for row in _profiles(magics)],
        "--tier": lambda: ["dev", "prod"],
        "--steps": lambda: ["5,30,100", "10,50,100"],
        "--tolerate": lambda: ["errors=1%", "slow=5%", "outputs=10%"],
    }
    if before in values:
        return values[before]()
    if not done:
        return [*_VERBS, *_names(magics)]
    if done[0] in _VERBS:
        if len(done) == 1:
            return _names(magics)
        parser = _LINE.verbs()[done[0]]
        if parser.takes_value(before):
            return []
        frames = _frames(magics) if done[0] == "label" and len(done) == 2 else []
        return [*frames, *(option for option in parser.options() if option not in done)]
    return [option for option in CELL.options() if option not in done]


def _names(magics: DeployMagics) -> Sequence[str]:
    """Of endpoints; none where no workbench answers, so that verbs are completed all the same."""
    try:
        return magics.wb.serving.names()
    except ThemistoError:
        return []


def _frames(magics: DeployMagics) -> list[str]:
    return [n for n, value in magics.ns.items() if type(value).__name__ == "DataFrame" and not n.startswith("_")]


def _profiles(magics: DeployMagics) -> Iterable[Any]:
    from themisto.about import About

    return About(magics.wb).profiles()


MAGICS = DeployMagics
