"""`%%deploy`: parse the line into options, run the cell, deploy its last value."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from themisto.errors import Invalid
from themisto.magic import LineParser, variable
from themisto.serving import display
from themisto.serving.gating import Named
from themisto.serving.options import milliseconds
from themisto.serving.order import Options
from themisto.serving.rollout import Strategy
from themisto.serving.watching import watcher

__all__ = ["CELL", "options_of"]


def options_of(args: argparse.Namespace, cell: str = "") -> Options:
    """What the line says; `rule` and `holdout` are names still, whose values the cell may make. Raises Invalid."""
    said = vars(args)
    strategy, weight_pct = _strategy(said)
    options = {name: value for name, value in said.items() if name in Options.model_fields}
    return Options.of(options | {"strategy": strategy, "weight_pct": weight_pct, "cell": cell})


def _deploy(magics: Any, args: argparse.Namespace, cell: str) -> display.Deployment:
    serving = magics.wb.serving
    order = serving.order(args.endpoint, options_of(args, cell))
    if args.sample not in magics.ns and args.sample not in cell:
        variable(magics.ns, args.sample)
    model = magics.run_body(cell)
    sample = variable(magics.ns, args.sample)
    rule, holdout = order.options.rule, order.options.holdout
    order = order.given(rule=variable(magics.ns, rule) if rule else None, holdout=_holdout(magics.ns, holdout))
    outcome, stages = serving.carry_out(order, model, sample, watcher=watcher())
    return display.Deployment(outcome, stages, gateway=magics.wb.control.discovery.gateway.http)


def _holdout(ns: Mapping[str, Any], text: str | None) -> Any:
    """The variable of that name with its name; what is no variable is a file or a stored hold-out."""
    return Named(text, ns[text]) if text is not None and text in ns else text


def _strategy(said: Mapping[str, Any]) -> tuple[Strategy, int | None]:
    if "shadow" in said:
        return "shadow", None
    if "replace" in said:
        return "replace", None
    if "ab" in said:
        return "ab", _percent(said["ab"])
    return "canary", _percent(said["canary"]) if "canary" in said else None


def _percent(text: str) -> int:
    digits = text.removesuffix("%")
    if not digits.isdigit():
        raise Invalid(f"'{text}' is no percentage.", "Give a whole number from 1 to 100.")
    return int(digits)


CELL = LineParser(
    "%%deploy",
    description="Deploy the cell's last value: a model, or a function of a DataFrame.",
    argument_default=argparse.SUPPRESS,  # what is not said has the default of Options
)
CELL.add_argument("endpoint", metavar="ENDPOINT", help="the name that clients call")
CELL.add_argument("--sample", required=True, metavar="VAR", help="a DataFrame of rows as callers will send them")
CELL.add_argument("--features", metavar="SERVICE", help="feature service that the gateway looks up: name[@version]")
CELL.add_argument("--profile", help="see %%themisto profiles")
CELL.add_argument("--tier", choices=["dev", "prod"])
_how = CELL.add_mutually_exclusive_group()
_how.add_argument("--canary", metavar="PCT", help="first share of the traffic, then 30, 100; default 5")
_how.add_argument("--steps", metavar="5,30,100", help="a canary's shares of the traffic")
_how.add_argument("--shadow", action="store_true", help="a copy of the traffic; its answers are logged only")
_how.add_argument("--ab", metavar="PCT", help="share of the traffic, to compare")
_how.add_argument("--replace", action="store_true", help="all traffic at once")
CELL.add_argument("--manual", action="store_true", help="a person takes each step; a breach still goes back")
CELL.add_argument("--dwell", metavar="10m", help="how long each step lasts at the least; default 60s")
CELL.add_argument("--tolerate", action="append", metavar="errors=1%%", help="worse than stable by, may be repeated")
CELL.add_argument("--slo", action="append", metavar="p99=10ms", help="may be repeated")
CELL.add_argument(
    "--batch",
    metavar="max=64,delay=100us",
    help="see docs/observing.md: preferred, instances, cache, priority, rate, too",
)
CELL.add_argument("--warmup", type=int, metavar="N", help="requests before traffic")
CELL.add_argument("--new-version", action="store_true", help="as ENDPOINT.v2 beside what answers, for new columns")
CELL.add_argument("--default", metavar="JSON", help="""answer when nothing else can: '{"prediction": 0.5}'""")
CELL.add_argument("--rule", metavar="FUNC", help="function of the same columns that answers before the default")
CELL.add_argument(
    "--fallback-after",
    type=milliseconds,
    dest="fallback_after_ms",
    metavar="1s",
    help="how long the release may take: 200ms, 1s",
)
CELL.add_argument("--personal", metavar="name=hash,email=drop", help="what the log keeps: hash, encrypt or drop")
CELL.add_argument(
    "--gate", action="append", dest="gates", metavar="GATE", help="'auc >= champion - 0.005'; may be repeated"
)
CELL.add_argument("--holdout", metavar="VAR|FILE", help="rows to be judged on: a DataFrame, a file, a stored one, same")
CELL.add_argument("--label", metavar="COLUMN", help="the column of the hold-out that holds the truth")
CELL.add_argument("--by", action="append", metavar="COLUMN", help="judge its slices too; may be repeated")
CELL.add_argument("--native", action="store_true", help="in the model's own library and packages, not as ONNX")
CELL.add_argument("--dry-run", action="store_true", help="stop after the parity gate")
CELL.set_defaults(handler=_deploy)
