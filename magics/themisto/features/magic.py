"""`%features` and `%%features`: parse the line, call the service, show its answer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from IPython.core.error import UsageError

from themisto.errors import Invalid, ThemistoError
from themisto.features import display
from themisto.features.bar import Bar
from themisto.features.engine import was_stopped
from themisto.features.progress import Progress
from themisto.magic import LineParser, VerbMagics, key_values, variable

__all__ = ["MAGICS", "FeaturesMagics"]


class FeaturesMagics(VerbMagics):
    """Features: what is known about whom, at which time."""

    @property
    def parsers(self) -> Mapping[str, Sequence[LineParser]]:
        return {"features": (_LINE, _CELL)}

    def features(self, line: str, cell: str | None = None) -> Any:
        try:
            return self.answer(_LINE if cell is None else _CELL, line, cell)
        except (KeyboardInterrupt, RuntimeError) as error:  # of a change the service has said how it stands
            if not was_stopped(error):
                raise
            raise UsageError("You stopped it. Nothing was changed.") from None

    def complete(self, name: str, words: Sequence[str]) -> Iterable[str]:
        return _complete(self, words)


def _list(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.listed(*magics.wb.features.list())


def _show(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.shown(magics.wb.features.show(args.view))


def _apply(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    objects = [variable(magics.ns, name) for name in args.variables]
    if args.dry_run:
        return display.planned(magics.wb.features.plan(*objects))
    return display.applied(magics.wb.features.apply(*objects))


def _erase(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    if not args.yes:
        raise Invalid("Nothing was erased: there is no way back.", "Say that you mean it: --yes.")
    return display.erased(magics.wb.features.erase(args.entity, **key_values(args.keys)))


def _push(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.pushed(magics.wb.features.push(args.view, variable(magics.ns, args.variable)))


def _materialize(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    with Progress() as progress:
        run = magics.wb.features.materialize(args.view, args.since, args.until, full=args.full, watch=progress.tell)
    return display.materialized(run)


def _get(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    only = [name for name in args.only.split(",") if name] if args.only is not None else None
    return magics.wb.features.get(
        args.service, as_of=args.as_of, features=only, history=args.last, **key_values(args.keys)
    )


def _freshness(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    return display.freshness(magics.wb.features.freshness())


def _quarantine(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    data = magics.wb.features.show(args.view).data
    if data is not None and data.left_out:
        print(f"Not in quarantine either, but left out: {display.left_out(data)}.")
    return magics.wb.features.quarantine(args.view)


def _check(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    against = variable(magics.ns, args.against) if args.against else None
    split = args.split
    if split is not None and split not in getattr(against, "columns", ()):
        split = variable(magics.ns, split)
    said = {"label": args.label, "at": args.at, "sample": args.sample, "seed": args.seed}
    return display.checked(args.service, magics.wb.features.check(args.service, against, split=split, **said))


def _join(magics: FeaturesMagics, args: argparse.Namespace, cell: str | None) -> Any:
    if not args.variable.isidentifier():
        raise Invalid(f"'{args.variable}' is no variable name.", "Write %%features NAME --service SERVICE.")
    bar = Bar(args.variable)
    how = {"at": args.at, "frames": magics.ns, "known": args.known, "to": args.to, "told": bar.told}
    try:
        joined = magics.wb.features.joined(_spine(magics, cell or ""), args.service, **how)
    finally:
        bar.close()
    magics.ns[args.variable] = joined.frame
    return display.joined(args.variable, joined)


def _spine(magics: FeaturesMagics, cell: str) -> Any:
    """The cell is SQL, the path of a Parquet file, or the name of a variable with rows."""
    name = cell.strip()
    return variable(magics.ns, name) if name.isidentifier() else name


_LINE = LineParser("%features", description="Feature views and services of your group.")
_verbs = _LINE.add_subparsers(
    required=True,
    metavar="list | show | apply | push | materialize | get | erase | freshness | quarantine | check",
)
_verbs.add_parser("list", help="all views and services").set_defaults(handler=_list)
_parser = _verbs.add_parser("show", help="one view, whole")
_parser.add_argument("view", metavar="VIEW")
_parser.set_defaults(handler=_show)
_parser = _verbs.add_parser("apply", help="register entities, views (with their rows) and services")
_parser.add_argument("variables", nargs="+", metavar="VAR")
_parser.add_argument("--dry-run", action="store_true", help="only show what would change")
_parser.set_defaults(handler=_apply)
_parser = _verbs.add_parser("push", help="add events to a view, readable online at once")
_parser.add_argument("view", metavar="VIEW")
_parser.add_argument("variable", metavar="VAR", help="a DataFrame with the view's columns")
_parser.set_defaults(handler=_push)
_parser = _verbs.add_parser("materialize", help="bring the newest rows online")
_parser.add_argument("view", metavar="VIEW")
_parser.add_argument("--since", help="2013-06-01, 2013-06-01T12:00 or an age such as 7d (UTC)")
_parser.add_argument("--until", help="as --since")
_parser.add_argument("--full", action="store_true", help="all rows, not only those that changed")
_parser.set_defaults(handler=_materialize)
_parser = _verbs.add_parser("get", help="the newest features of one entity")
_parser.add_argument("service", metavar="SERVICE")
_parser.add_argument("keys", nargs="+", metavar="KEY=VALUE")
_parser.add_argument("--as-of", metavar="TIME", help="as they were then, from the offline store")
_parser.add_argument("--last", type=int, metavar="N", help="the last N values instead of the newest one")
_parser.add_argument("--only", metavar="FEATURE,…", help="only these features")
_parser.set_defaults(handler=_get)
_parser = _verbs.add_parser("erase", help="remove one entity, online and offline, for ever")
_parser.add_argument("entity", metavar="ENTITY")
_parser.add_argument("keys", nargs="+", metavar="KEY=VALUE")
_parser.add_argument("--yes", action="store_true", help="there is no way back")
_parser.set_defaults(handler=_erase)
_verbs.add_parser("freshness", help="how far each view reaches").set_defaults(handler=_freshness)
_parser = _verbs.add_parser("quarantine", help="rows that are not as their view expects, and why")
_parser.add_argument("view", metavar="VIEW")
_parser.set_defaults(handler=_quarantine)
_parser = _verbs.add_parser(
    "check", help="leakage, skew, freshness: what is wrong with a service and its training rows?"
)
_parser.add_argument("service", metavar="SERVICE")
_parser.add_argument("--against", metavar="VAR", help="a DataFrame: training rows, or fresh rows to compare")
_parser.add_argument("--label", metavar="COLUMN", help="the column to be predicted: which features give it away?")
_parser.add_argument("--at", metavar="COLUMN", help="the time of the rows; default: the views' own name for it")
_parser.add_argument(
    "--split", metavar="COLUMN", help="the column with each row's part; or the other part, a DataFrame"
)
_parser.add_argument("--sample", type=int, default=100, metavar="N", help="entities of each view to read online (100)")
_parser.add_argument("--seed", type=int, default=0, metavar="N", help="which entities that are")
_parser.set_defaults(handler=_check)

_CELL = LineParser(
    "%%features",
    description="Join features, as known at each row's time, to rows: of a SELECT, variable or file.",
)
_CELL.add_argument("variable", metavar="VAR", help="the variable that gets the result")
_CELL.add_argument("--service", required=True, help="name, or name@version")
_CELL.add_argument("--at", metavar="COLUMN", help="the time; default: the views' own name for it")
_CELL.add_argument("--known", action="store_true", help="see only rows that had been created by then")
_CELL.add_argument("--to", metavar="FILE", help="a Parquet file for the result; VAR gets its path")
_CELL.set_defaults(handler=_join)


def _complete(magics: FeaturesMagics, words: Sequence[str]) -> Iterable[str]:
    """Candidates after the words that are done; the last word is still being typed."""
    done = list(words[:-1])
    if not done:
        return list(_LINE.verbs())
    parser = _LINE.verbs().get(done[0], _CELL)
    if parser.takes_value(done[-1]):
        return _value(magics, done)
    placed = [w for before, w in pairwise(done) if not w.startswith("--") and not parser.takes_value(before)]
    places = _PLACES.get(done[0], ())
    if len(placed) < len(places):
        return places[len(placed)](magics, placed)
    more: list[str] = []
    with suppress(ThemistoError):  # of what is not registered no keys are known
        more = _KEYS[done[0]](magics, placed) if done[0] in _KEYS else []
    said = {word.partition("=")[0] for word in done if word.startswith("--") or "=" in word}
    return [w for w in [*more, *parser.options()] if w.rstrip("=") not in said]


def _value(magics: FeaturesMagics, done: Sequence[str]) -> Iterable[str]:
    """What may stand after an option."""
    match done[-1]:
        case "--service":
            return _services(magics)
        case "--against":
            return _frames(magics)
        case "--label" | "--at" | "--split" as option:
            named = [after for before, after in pairwise(done) if before == "--against"]
            columns = [str(c) for name in named for c in getattr(magics.ns.get(name), "columns", ())]
            return [*columns, *(_frames(magics) if option == "--split" else ())]
        case _:
            return []


def _views(magics: FeaturesMagics) -> list[str]:
    return [v.view.name for v in magics.wb.features.list()[0]]


def _services(magics: FeaturesMagics) -> list[str]:
    return [s.name for s in magics.wb.features.list()[1]]


def _entities(magics: FeaturesMagics) -> list[str]:
    return [*dict.fromkeys(v.view.entity.name for v in magics.wb.features.list()[0])]


def _frames(magics: FeaturesMagics) -> list[str]:
    return _variables(magics, ("DataFrame",))


def _variables(magics: FeaturesMagics, kinds: Sequence[str]) -> list[str]:
    return [name for name, value in magics.ns.items() if type(value).__name__ in kinds and not name.startswith("_")]


def _keys_of_service(magics: FeaturesMagics, placed: Sequence[str]) -> list[str]:
    return [f"{k.name}=" for k in magics.wb.features.service(placed[0]).keys]


def _keys_of_entity(magics: FeaturesMagics, placed: Sequence[str]) -> list[str]:
    views = [v.view for v in magics.wb.features.list()[0] if v.view.entity.name == placed[0]]
    return [*dict.fromkeys(f"{k.name}=" for view in views for k in view.keys)]


def _definitions(magics: FeaturesMagics, placed: Sequence[str]) -> list[str]:
    found = _variables(magics, ("Entity", "FeatureView", "FeatureService"))
    return [name for name in found if name not in placed]


Place = Callable[["FeaturesMagics", Sequence[str]], list[str]]
_ONE_VIEW: Sequence[Place] = [lambda m, _: _views(m)]
_ONE_SERVICE: Sequence[Place] = [lambda m, _: _services(m)]
_PLACES: Mapping[str, Sequence[Place]] = {
    "show": _ONE_VIEW,
    "quarantine": _ONE_VIEW,
    "materialize": _ONE_VIEW,
    "push": [*_ONE_VIEW, lambda m, _: _frames(m)],
    "get": _ONE_SERVICE,
    "check": _ONE_SERVICE,
    "erase": [lambda m, _: _entities(m)],
}
_KEYS: Mapping[str, Place] = {"get": _keys_of_service, "erase": _keys_of_entity, "apply": _definitions}

MAGICS = FeaturesMagics
