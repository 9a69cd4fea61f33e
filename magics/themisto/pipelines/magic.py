"""`%%step` and `%pipeline`: the line to one call of the service, and its answer to a display."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from IPython.core.magic import magics_class
from IPython.display import display

from themisto.errors import Invalid, ThemistoError
from themisto.magic import LineParser, VerbMagics, key_values
from themisto.pipelines.display import PipelineTable, RunTable, StepCard, SubmittedCard
from themisto.pipelines.models import Output, Pipeline
from themisto.pipelines.runs import PipelineRun, StepFailed

__all__ = ["MAGICS", "PipelineMagics"]

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _duration(text: str) -> float:
    """`90s`, `30m`, `2h` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; write 90s, 30m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _output(text: str) -> Output:
    name, _, chosen = text.partition(":")
    if chosen not in ("", "pickle"):
        raise argparse.ArgumentTypeError(f"'{chosen}' is no format to ask for; only pickle is, as in {name}:pickle")
    if not name.isidentifier():
        raise argparse.ArgumentTypeError(f"'{name}' is no variable's name")
    return Output.model_validate({"name": name, "format": chosen})


def _step(magics: PipelineMagics, args: argparse.Namespace, cell: str | None) -> StepCard:
    if cell is None:
        raise Invalid("%%step marks a whole cell.", "Write %%step NAME on the cell's first line.")
    pipelines = magics.wb.pipelines
    step = pipelines.plan(
        args.name,
        cell,
        cells=magics.cells,
        inputs=args.i,
        outputs=args.o,
        profile=args.profile,
        retries=args.retries,
        timeout_s=args.timeout,
        cache=not args.no_cache,
    )
    value = magics.run_body(cell)
    if value is not None:
        display(value)
    kept = pipelines.record(step, magics.ns)
    number = [s.name for s in pipelines.steps].index(kept.name) + 1
    return StepCard(kept, number, _whole(magics))


def _whole(magics: PipelineMagics) -> Pipeline | None:
    """The pipeline, if it holds together; a later step may still be waiting to be run again."""
    try:
        return magics.wb.pipelines.pipeline()
    except ThemistoError:
        return None


def _show(magics: PipelineMagics, args: argparse.Namespace, _: str | None) -> PipelineTable:
    return PipelineTable(magics.wb.pipelines.pipeline(args.name))


def _compile(magics: PipelineMagics, args: argparse.Namespace, _: str | None) -> PipelineTable:
    file = magics.wb.pipelines.compile(args.file, name=args.name)
    table = PipelineTable(magics.wb.pipelines.pipeline(args.name))
    table.title += f" compiled to {file}"
    return table


def _run(magics: PipelineMagics, args: argparse.Namespace, _: str | None) -> RunTable:
    # A terminal cannot change what it has printed: there, only the end is shown.
    shown = display(display_id=True) if hasattr(magics.shell, "kernel") else None

    def tell(run: PipelineRun) -> None:
        if shown is not None:
            shown.update(RunTable(run))

    try:
        run = magics.wb.pipelines.run(key_values(args.p), name=args.name, progress=tell)
    except StepFailed as error:
        if shown is None:
            display(RunTable(error.run))
        raise
    if shown is not None:
        shown.update({"text/plain": ""}, raw=True)
    return RunTable(run)


def _submit(magics: PipelineMagics, args: argparse.Namespace, _: str | None) -> SubmittedCard:
    return SubmittedCard(magics.wb.pipelines.submit(key_values(args.p), name=args.name))


def _export(magics: PipelineMagics, args: argparse.Namespace, _: str | None) -> PipelineTable:
    file = magics.wb.pipelines.export_airflow(args.file, name=args.name)
    table = PipelineTable(magics.wb.pipelines.pipeline(args.name))
    table.title += f" exported to {file}"
    return table


_STEP = LineParser("%%step", description="Run this cell now, and make it a step of the notebook's pipeline.")
_STEP.add_argument("name", help="the step's name: lower case, digits, - and _")
_STEP.add_argument("-i", action="append", metavar="VAR", help="takes VAR from an earlier step; default: inferred")
_STEP.add_argument("-o", action="append", metavar="VAR[:pickle]", type=_output, help="hands on VAR; default: inferred")
_STEP.add_argument("--profile", help="compute shape; yours: %%themisto profiles")
_STEP.add_argument("--retries", type=int, default=0, metavar="N", help="tries again after a failure")
_STEP.add_argument("--timeout", type=_duration, metavar="30m", help="at most so long")
_STEP.add_argument("--no-cache", action="store_true", help="runs each time, even if nothing changed")
_STEP.set_defaults(handler=_step)

_PIPELINE = LineParser("%pipeline", description="The pipeline that this notebook's steps make.")
_verbs = _PIPELINE.add_subparsers(
    required=True, metavar="show | compile | run | submit | export", parser_class=LineParser
)


def _verb(name: str, handler: Any, help: str) -> argparse.ArgumentParser:
    parser = _verbs.add_parser(name, help=help, description=help)
    parser.add_argument("--name", default="pipeline", help="the pipeline's name")
    parser.set_defaults(handler=handler)
    return parser


_verb("show", _show, "steps, and what flows between them")
_verb("compile", _compile, "write Kubeflow Pipelines v2 YAML").add_argument("file")
for _name, _handler, _help in (
    ("run", _run, "run all steps here, from the cache where nothing changed"),
    ("submit", _submit, "start it on Kubeflow"),
):
    _verb(_name, _handler, _help).add_argument(
        "-p", action="append", default=[], metavar="K=V", help="instead of a constant the steps read"
    )
_exporter = _verb("export", _export, "write an Airflow DAG")
_exporter.add_argument("to", choices=["airflow"])
_exporter.add_argument("file")


@magics_class
class PipelineMagics(VerbMagics):
    """`%%step NAME` and `%pipeline show | compile | run | submit | export`."""

    @property
    def parsers(self) -> Mapping[str, Sequence[LineParser]]:
        return {"step": (_STEP,), "pipeline": (_PIPELINE,)}

    @property
    def cells(self) -> Sequence[str]:
        """Sources of the cells that this notebook has run, this one included."""
        cells: Sequence[str] = self.shell.history_manager.input_hist_parsed
        return cells

    def step(self, line: str, cell: str | None = None) -> Any:
        """Run this cell and make it a step."""
        return self.answer(_STEP, line, cell)

    def pipeline(self, line: str, cell: str | None = None) -> Any:
        """What is made of the steps."""
        return self.answer(_PIPELINE, line, cell)

    def complete(self, name: str, words: Sequence[str]) -> Iterable[str]:
        """Subcommands, options, and variables after -i and -o."""
        before = words[-2] if len(words) > 1 else ""
        if name == "pipeline":
            return ["show", "compile", "run", "submit", "export"] if len(words) < 2 else ["airflow", "--name", "-p"]
        if before in ("-i", "-o"):
            return [n for n in self.ns if not n.startswith("_")]
        if before == "--profile" and not self.wb.settings.embedded:
            profiles: Any = self.wb.control.get("profiles")
            return [p["name"] for p in profiles]
        return [
            "-i",
            "-o",
            "--profile",
            "--retries",
            "--timeout",
            "--no-cache",
            *(s.name for s in self.wb.pipelines.steps),
        ]


MAGICS = PipelineMagics
