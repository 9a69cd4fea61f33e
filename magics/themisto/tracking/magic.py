"""`%%track` and `%track`: a cell as a run; runs listed, compared, registered."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from IPython.core.magic import magics_class

from themisto.display import Card, Table
from themisto.magic import LineParser, VerbMagics, key_values, variable
from themisto.tracking.digest import is_frame
from themisto.tracking.display import RunCard

__all__ = ["MAGICS", "TrackMagics"]


@magics_class
class TrackMagics(VerbMagics):
    """`%%track -e EXPERIMENT [-n NAME] [-t KEY=VALUE]... [--data DF]... [--no-autolog]`."""

    @property
    def parsers(self) -> Mapping[str, Sequence[LineParser]]:
        return {"track": (_LINE, _CELL)}

    def track(self, line: str, cell: str | None = None) -> Any:
        """Run the cell inside an MLflow run; or list, compare and register runs."""
        return self.answer(_LINE if cell is None else _CELL, line, cell)

    def complete(self, name: str, words: Sequence[str]) -> Iterable[str]:
        """Experiment names after -e, frames after --data."""
        before = words[-2] if len(words) > 1 else ""
        if before in ("-e", "--experiment"):
            return self.wb.tracking.connection.experiment_names()
        if before == "--data":
            return [key for key, value in self.ns.items() if not key.startswith("_") and is_frame(value)]
        return ["runs", "compare", "register", "sync", "-e", "-n", "-t", "--data", "--no-autolog"]


def _run_cell(magics: TrackMagics, args: argparse.Namespace, cell: str) -> RunCard | None:
    ready, later = _frames(magics.ns, args.data, cell)
    recording = magics.wb.tracking.track(
        args.experiment,
        name=args.name,
        tags=key_values(args.tag),
        data=ready,
        source=cell,
        autolog=not args.no_autolog,
        namespace=lambda: dict(magics.ns),
    )
    try:
        with recording as run:
            run.result(magics.run_body(cell))
            for name in later:
                run.add_data(name, variable(magics.ns, name))
    except BaseException:
        if recording.card is not None:
            print(_told(recording.card), file=sys.stderr)
        raise
    return recording.card


def _told(card: RunCard) -> str:
    how = "was stopped" if card.status == "KILLED" else "failed"
    return f"Run {card.run_id} {how}; what it logged and the traceback are kept. {card.note}".strip()


def _frames(ns: Mapping[str, Any], names: Sequence[str], cell: str) -> tuple[dict[str, Any], list[str]]:
    """Frames that are there, and names that the cell will make. Raises NotFound for others, before the cell runs."""
    made = _assigned(cell)
    later = [name for name in names if name not in ns and name in made]
    return {name: variable(ns, name) for name in names if name not in later}, later


def _assigned(cell: str) -> set[str]:
    try:
        tree = ast.parse(cell)
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _runs(magics: TrackMagics, args: argparse.Namespace, _: object) -> Table:
    return magics.wb.tracking.runs(args.experiment, order_by=args.order_by, limit=args.limit)


def _compare(magics: TrackMagics, args: argparse.Namespace, _: object) -> Table:
    return magics.wb.tracking.compare(args.first, args.second)


def _register(magics: TrackMagics, args: argparse.Namespace, _: object) -> Card:
    uri = magics.wb.tracking.register(args.run, args.name)
    return Card(f"Registered {uri}", {"run": args.run, "load": f'mlflow.pyfunc.load_model("{uri}")'})


def _sync(magics: TrackMagics, args: argparse.Namespace, _: object) -> Card:
    sent = magics.wb.tracking.sync()
    return Card("The tracking server is up to date.", {"runs sent": sent})


_CELL = LineParser("%%track", description="Run the cell inside an MLflow run.")
_CELL.add_argument("-e", "--experiment", required=True, help="made when it is not there yet")
_CELL.add_argument("-n", "--name", help="of the run; default: MLflow makes one up")
_CELL.add_argument("-t", "--tag", action="append", default=[], metavar="KEY=VALUE")
_CELL.add_argument("--data", action="append", default=[], metavar="DF", help="a frame to digest whole")
_CELL.add_argument("--no-autolog", action="store_true", help="log only what the cell logs itself")
_CELL.set_defaults(handler=_run_cell)

_LINE = LineParser("%track", description="List, compare and register runs.")
_what = _LINE.add_subparsers(required=True, metavar="runs | compare | register | sync", parser_class=LineParser)
_parser = _what.add_parser("runs", help="the runs of an experiment")
_parser.add_argument("-e", "--experiment", required=True)
_parser.add_argument("--order-by", help='for example "metrics.auc DESC"')
_parser.add_argument("--limit", type=int, default=20)
_parser.set_defaults(handler=_runs)
_parser = _what.add_parser("compare", help="two runs side by side")
_parser.add_argument("first", metavar="RUN")
_parser.add_argument("second", metavar="RUN")
_parser.set_defaults(handler=_compare)
_parser = _what.add_parser("register", help="make a run's model the next version of NAME")
_parser.add_argument("run", metavar="RUN")
_parser.add_argument("name", metavar="NAME")
_parser.set_defaults(handler=_register)
_parser = _what.add_parser("sync", help="send what the tracking server has missed")
_parser.set_defaults(handler=_sync)

MAGICS = TrackMagics
