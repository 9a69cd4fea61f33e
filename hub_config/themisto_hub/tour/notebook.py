"""One notebook, run cell by cell in its user's server.

Metadata `themisto: {user, profile}` says who runs it. Tags of a cell:

    as:USER                 it runs in that user's server
    verify                  what it prints is what the tour has verified
    raises-exception        it must fail (nbformat's own tag)
    stop-server             the runner stops the user's server
    approve:USER            the runner approves, as that person, what waits on the endpoint the cell names
    refused-approval:USER   the same, and it must be refused
    audit-tamper            the runner changes one event in a copy of the audit database: it must be noticed
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from themisto.errors import Failed
from themisto_hub.tour.audit import tampering_is_noticed
from themisto_hub.tour.people import People, Person

__all__ = ["run_notebook"]

FOLDER = "tour"


def run_notebook(file: Path, target: Path, people: People) -> list[str]:
    """Run `file`, keep it with its outputs in `target`; returns what was verified.

    The notebooks of its folder are uploaded beside it, as one may schedule another. Raises Failed at the first cell
    that does not do as it should.
    """
    notebook = nbformat.read(file, as_version=4)
    who = notebook.metadata.get("themisto", {})
    person = people[who["user"]] if "user" in who else people.first
    person.ensure_server(who.get("profile"))
    for companion in {file, *file.parent.glob("*.ipynb")}:
        person.upload(f"{FOLDER}/{companion.name}", nbformat.read(companion, as_version=4))
    verified: list[str] = []
    try:
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                verified += _run_cell(cell, index, file.name, person, people)
    finally:
        people.end_kernels()
        nbformat.write(notebook, target)
    person.upload(f"{FOLDER}/{file.name}", notebook)
    return verified


def _run_cell(cell: NotebookNode, index: int, name: str, person: Person, people: People) -> list[str]:
    tags: list[str] = cell.metadata.get("tags", [])
    for tag in tags:
        kind, _, argument = tag.partition(":")
        if kind == "stop-server":
            person.stop_server()
            return []
        if kind in ("approve", "refused-approval"):
            return [people[argument].review(cell.source.strip(), approve=kind == "approve")]
        if kind == "audit-tamper":
            return [tampering_is_noticed(people.house)]
    runs_it = next((people[t.removeprefix("as:")] for t in tags if t.startswith("as:")), person)
    runs_it.ensure_server(None)
    cell.outputs, cell.execution_count, failed = runs_it.kernel(f"{FOLDER}/{name}").run(cell.source, cell.id)
    if failed and "raises-exception" not in tags:
        raise Failed(f"cell {index} of {name} failed: {_error_in(cell)}", _first_line(cell.source))
    if not failed and "raises-exception" in tags:
        raise Failed(f"cell {index} of {name} should have failed and did not.", _first_line(cell.source))
    return _printed(cell) if "verify" in tags else []


def _printed(cell: NotebookNode) -> list[str]:
    text = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
    return [line for line in text.splitlines() if line.strip()]


def _error_in(cell: NotebookNode) -> str:
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    text = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr")
    return text.strip()[-500:] or "no reason given"


def _first_line(source: str) -> str:
    return f"In: {source.strip().splitlines()[0] if source.strip() else '(empty cell)'}"
