"""The verbs of `%deploy` that look at live traffic and at speed: parse, call the service, show its answer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from themisto.magic import variable
from themisto.serving import observing_display
from themisto.serving.watching import watcher

__all__ = ["VERBS", "add_arguments"]


def _log(magics: Any, args: argparse.Namespace, cell: str | None) -> Any:
    asked = {"since": args.since, "until": args.until, "labels": args.labels}
    serving = magics.wb.serving
    lost = serving.log_losses()
    if lost.any:
        sys.stdout.write(f"The log has gaps, in all endpoints together: {lost}.\n")
    if args.to:
        return observing_display.exported(serving.export_log(args.endpoint, args.to, limit=args.limit, **asked))
    found = serving.log(args.endpoint, limit=100 if args.limit is None else args.limit, **asked)
    if found.empty:
        sys.stdout.write("The log holds no such request; one is in it some seconds after its answer.\n")
    return found


def _label(magics: Any, args: argparse.Namespace, cell: str | None) -> Any:
    frame = variable(magics.ns, args.labels)
    counts = magics.wb.serving.label(args.endpoint, frame, on=args.on, label=args.column)
    return observing_display.labelled(args.endpoint, counts)


def _shadow(magics: Any, args: argparse.Namespace, cell: str | None) -> Any:
    found = magics.wb.serving.shadow(args.endpoint, since=args.since, limit=args.limit)
    sys.stdout.write(f"{found.attrs['summary']}\n")
    return found


def _ab(magics: Any, args: argparse.Namespace, cell: str | None) -> Any:
    metric = variable(magics.ns, args.metric)
    return observing_display.effect_card(
        magics.wb.serving.ab(args.endpoint, metric, on=args.on, value=args.value, since=args.since)
    )


def _bench(magics: Any, args: argparse.Namespace, cell: str | None) -> Any:
    serving = magics.wb.serving
    bench, slo = serving.bench(args.endpoint, slo=args.slo, seconds=args.seconds, watcher=watcher())
    released = serving.apply_bench(bench, slo) if args.apply else None
    return observing_display.Frontier(bench, slo, released)


def _batch(magics: Any, args: argparse.Namespace, cell: str | None) -> Any:
    done = magics.wb.serving.batch(args.endpoint, args.input, args.output, watcher=watcher())
    return observing_display.batch_card(done)


VERBS: dict[str, tuple[Callable[..., Any], str]] = {
    "log": (_log, "the newest predictions as a DataFrame, or as a Parquet file"),
    "label": (_label, "say what turned out to be true about earlier predictions"),
    "shadow": (_shadow, "what callers were answered beside what the shadow would have said"),
    "ab": (_ab, "the effect of an A/B split on a metric of yours"),
    "bench": (_bench, "measure ways of serving it and propose one for a service level"),
    "batch": (_batch, "a whole data set through the stable release"),
}

_SINCE = "30m, 2h, 7d ago, or a time: 2026-11-20T08:00"


def add_arguments(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments, after the endpoint's name."""
    if verb in ("log", "shadow", "ab"):
        parser.add_argument("--since", metavar="T", help=_SINCE)
    if verb == "log":
        parser.add_argument("--until", metavar="T", help="the same")
        parser.add_argument("--limit", type=int, metavar="N", help="requests; default 100, with --to a million")
        parser.add_argument("--labels", action="store_true", help="with the labels that were posted")
        parser.add_argument("--to", metavar="FILE.parquet", help="write a file instead of showing it")
    elif verb == "label":
        parser.add_argument("labels", metavar="VAR", help="a DataFrame")
        parser.add_argument("--on", default="request_id", metavar="COLUMN", help="request_id, or the key's column")
        parser.add_argument("--column", default="label", metavar="COLUMN", help="holds the labels; default: label")
    elif verb == "shadow":
        parser.add_argument("--limit", type=int, default=2000, metavar="N", help="answers that are compared")
    elif verb == "ab":
        parser.add_argument("--metric", required=True, metavar="VAR", help="a DataFrame: one row a request or key")
        parser.add_argument("--on", default="request_id", metavar="COLUMN", help="request_id, or the key's column")
        parser.add_argument("--value", metavar="COLUMN", help="the metric's column; default: the only other one")
    elif verb == "bench":
        parser.add_argument("--slo", action="append", default=[], metavar="p99=10ms", help="may be repeated")
        parser.add_argument("--apply", action="store_true", help="release the configuration that is proposed")
        parser.add_argument("--seconds", type=int, default=60, metavar="N", help="of measuring, in all; 5 to 600")
    elif verb == "batch":
        parser.add_argument("--input", required=True, metavar="PATH", help="file, folder or pattern: 'in/*.parquet'")
        parser.add_argument("--output", required=True, metavar="FOLDER", help="gets Parquet files, part by part")
