"""A snapshot: the notebook and its files as they are now, in one zip whose digest is theirs."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from themisto.errors import Failed, Invalid, NotFound, did_you_mean

__all__ = ["Snapshot", "check_parameters", "take", "unpack"]

_MAX_BYTES = 64 * 2**20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip of the same files is the same bytes


@dataclass(frozen=True)
class Snapshot:
    """What a schedule runs. `notebook`: name of the notebook in it."""

    notebook: str
    content: bytes
    sha256: str


def take(notebook: Path, files: Iterable[str | Path] = ()) -> Snapshot:
    """Read the notebook (its outputs left out) and the files and folders beside it.

    Raises NotFound for a missing file, Invalid for one that is no notebook, lies elsewhere or is too large.
    """
    document = read_notebook(notebook)
    contents = {notebook.name: json.dumps(_without_outputs(document), sort_keys=True).encode()}
    for given in files:
        contents |= _beside(notebook.parent, Path(given))
    if sum(map(len, contents.values())) > _MAX_BYTES:
        raise Invalid("The notebook and its files are over 64 MiB.", "Read large data from where it lies.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(contents):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), contents[name], zipfile.ZIP_DEFLATED)
    content = buffer.getvalue()
    return Snapshot(notebook=notebook.name, content=content, sha256=hashlib.sha256(content).hexdigest())


def unpack(content: bytes, sha256: str, folder: Path) -> None:
    """Lay the snapshot out below `folder`. Raises Failed where it is not what its digest says, or leads outside."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Failed("The snapshot is not what its digest says.", "Schedule the notebook again.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
            raise Failed("The snapshot is over 64 MiB.", "Schedule the notebook again.")
        for member in archive.infolist():
            parts = PurePosixPath(member.filename).parts
            if not parts or ".." in parts or member.filename.startswith("/") or member.is_dir():
                raise Failed(f"The snapshot holds '{member.filename}'.", "Schedule the notebook again.")
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook as JSON. Raises NotFound, Invalid."""
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.ipynb")] if path.parent.is_dir() else []
        raise NotFound(f"There is no notebook '{path}'.", did_you_mean(path.name, beside, "Save it first."))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise Invalid(f"'{path}' is not a notebook.", "Schedule an .ipynb file.")
    return document


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Raises Invalid for a parameter that would change nothing.

    Where a cell is tagged `parameters`, it must set the name; where none is, no cell may set it: the
    notebook would take its own value.
    """
    if not parameters:
        return
    cells = [c for c in read_notebook(notebook)["cells"] if c.get("cell_type") == "code"]
    tagged = [c for c in cells if "parameters" in (c.get("metadata") or {}).get("tags", [])]
    known = _assigned(tagged[:1] or cells)
    for name in parameters:
        if tagged and name not in known:
            sets = f"It sets: {', '.join(sorted(known)) or 'nothing'}."
            raise Invalid(f"The notebook's parameters cell sets no '{name}'.", did_you_mean(name, known, sets))
        if not tagged and name in known:
            raise Invalid(
                f"The notebook sets '{name}' itself, in a cell that is not tagged 'parameters'.",
                "Tag that cell 'parameters' (Lab: Property Inspector, Cell Tags) and save the notebook.",
            )


def _assigned(cells: Sequence[Mapping[str, Any]]) -> set[str]:
    names: set[str] = set()
    for cell in cells:
        try:
            tree = ast.parse("".join(cell.get("source", "")))
        except SyntaxError:
            continue
        for statement in tree.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if isinstance(statement, ast.AnnAssign) and statement.value is not None:
                targets = [statement.target]
            names |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return names


def _without_outputs(document: Mapping[str, Any]) -> dict[str, Any]:
    cells = [
        {**cell, "outputs": [], "execution_count": None} if cell.get("cell_type") == "code" else cell
        for cell in document["cells"]
    ]
    return {**document, "cells": cells}


def _beside(root: Path, given: Path) -> dict[str, bytes]:
    """The file, or the files of the folder, under their names relative to the notebook."""
    path = given if given.is_absolute() else root / given
    if not path.exists():
        raise NotFound(f"There is no file '{given}' beside the notebook.", "Name it relative to the notebook.")
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    contents = {}
    for file in found:
        try:
            name = file.resolve().relative_to(root.resolve())
        except ValueError:
            raise Invalid(f"'{given}' lies outside the notebook's folder.", "Copy it beside the notebook.") from None
        contents[name.as_posix()] = file.read_bytes()
    return contents
