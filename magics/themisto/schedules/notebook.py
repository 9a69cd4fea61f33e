"""Running a notebook by papermill: its output, as notebook and as HTML, and where it failed."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from themisto.schedules.models import JobReport
from themisto.types import Json

__all__ = ["Outcome", "run_notebook"]

_log = logging.getLogger("themisto.job")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RUN = re.compile(r"/runs/([0-9a-f]{32})\b")
_START_TIMEOUT_S = 120


@dataclass(frozen=True)
class Outcome:
    """How the notebook went. `failed_cell` counts from 0, in the notebook as it was scheduled."""

    state: Literal["succeeded", "failed"]
    error: str = ""
    traceback: str = ""
    failed_cell: int | None = None
    failed_cell_id: str | None = None
    run_ids: tuple[str, ...] = ()
    outputs: Mapping[str, bytes] = field(default_factory=dict)

    def report(self, seconds: float) -> JobReport:
        """What the control plane is told."""
        return JobReport(
            state=self.state,
            seconds=seconds,
            failed_cell=self.failed_cell,
            failed_cell_id=self.failed_cell_id,
            error=self.error[:2_000],
            traceback=self.traceback[-50_000:],
            run_ids=self.run_ids[:100],
        )


def run_notebook(notebook: Path, parameters: Mapping[str, Json], folder: Path) -> Outcome:
    """Run `notebook` where it lies; `folder` is for what papermill reads and writes.

    What the notebook did up to a cell that raises, or up to its kernel's death, is kept.
    """
    import nbformat
    import papermill
    from traitlets.config import Config

    # papermill takes braces in file names for templates: it sees names of ours only.
    source, output = folder / "input.ipynb", folder / "output.ipynb"
    document = nbformat.read(notebook, as_version=4)
    _, document = nbformat.validator.normalize(document, 4, 5)
    document.nbformat_minor = max(document.nbformat_minor, 5)
    nbformat.write(document, source)
    error = ""
    # Loopback ports can be read by any uid of the machine, so the kernel talks over files; the system
    # allows about a hundred characters for their names.
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp", ignore_cleanup_errors=True) as sockets:
        private = {"transport": "ipc", "connection_file": f"{sockets}/k.json"}
        try:
            papermill.execute_notebook(
                str(source),
                str(output),
                parameters=dict(parameters),
                engine_name=_engine(output),
                kernel_name="python3",
                language="python",
                cwd=str(notebook.parent),
                progress_bar=False,
                start_timeout=_START_TIMEOUT_S,
                # papermill saves the whole notebook after every cell otherwise: quadratic.
                request_save_on_cell_execute=False,
                autosave_cell_every=0,
                config=Config({"KernelManager": private}),
            )
        except Exception as raised:  # noqa: BLE001 - the report must carry whatever it was
            error = f"{type(raised).__name__}: {_plain(str(raised)).strip() or 'no reason given'}"
    return _outcome(document, output, error)


def _outcome(document: Any, output: Path, error: str) -> Outcome:
    """Read how it went from the notebook itself: a magic's usage error stops it without raising here."""
    import nbformat

    if not output.exists():
        return Outcome(state="failed", error=error or "papermill left no output")
    ran = nbformat.read(output, as_version=4)
    outputs = {"output.ipynb": output.read_bytes(), **_html(ran)}
    run_ids = tuple(dict.fromkeys(_RUN.findall(_text_of(ran))))
    broken = _stopped_at(ran, died=bool(error))
    if broken is None:
        state: Literal["succeeded", "failed"] = "failed" if error else "succeeded"
        return Outcome(state=state, error=error, run_ids=run_ids, outputs=outputs)
    ids = [cell.get("id") for cell in document.cells]
    index = ids.index(broken.get("id")) if broken.get("id") in ids else None
    what, traceback = _raised(broken)
    where = "the parameters" if index is None else f"cell {index + 1}"
    return Outcome(
        state="failed",
        error=f"{where} raised {what}" if what else f"{where}: {error}",
        traceback=traceback,
        failed_cell=index,
        failed_cell_id=None if index is None else broken.get("id"),
        run_ids=run_ids,
        outputs=outputs,
    )


def _stopped_at(ran: Any, *, died: bool) -> Any:
    """The cell that raised; where the kernel died, the last one that was begun."""
    begun = [c for c in ran.cells if c.cell_type == "code" and c.metadata.papermill.get("status") != "pending"]
    raised = [c for c in begun if c.metadata.papermill.get("exception")]
    if raised:
        return raised[0]
    return begun[-1] if died and begun else None


def _raised(cell: Any) -> tuple[str, str]:
    """What the cell raised, in a line and as its traceback."""
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {_plain(output.evalue)}", _plain("\n".join(output.traceback))
    said = _plain("".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr")).strip()
    return said.splitlines()[-1] if said else "", said


def _engine(output: Path) -> str:
    """papermill's own engine, which also keeps the notebook when its kernel dies."""
    import nbformat
    from papermill.engines import NBClientEngine, papermill_engines

    class Keeping(NBClientEngine):  # type: ignore[misc]  # papermill is not typed
        """Writes the notebook before whatever stopped it goes on."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
            except BaseException:
                nbformat.write(nb_man.nb, output)
                raise

    papermill_engines.register("themisto", Keeping)
    return "themisto"


def _html(ran: Any) -> dict[str, bytes]:
    """The notebook as one page; left out where it cannot be made."""
    from nbconvert import HTMLExporter

    try:
        page, _ = HTMLExporter(template_name="lab", sanitize_html=True).from_notebook_node(ran)
    except Exception:  # noqa: BLE001 - the page is made for people; the notebook itself is there
        _log.exception("the output has no HTML")
        return {}
    return {"output.html": page.encode()}


def _text_of(ran: Any) -> str:
    """All text that the cells gave out."""
    parts: list[str] = []
    for cell in ran.cells:
        for output in cell.get("outputs", ()):
            parts.append(output.get("text", ""))
            parts += [str(part) for kind, part in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(parts)


def _plain(text: str) -> str:
    return _ANSI.sub("", text)
