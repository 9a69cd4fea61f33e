"""Snapshots: what goes in, what is refused, and that they are unpacked safely."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from themisto.errors import Failed, Invalid, NotFound
from themisto.schedules.snapshot import check_parameters, take, unpack


def notebook(folder: Path, *cells: tuple[str, list[str]], name: str = "n.ipynb") -> Path:
    path = folder / name
    made = [
        {"cell_type": "code", "source": s, "metadata": {"tags": t}, "outputs": ["x"], "execution_count": 4}
        for s, t in cells
    ]
    path.write_text(json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_the_same_files_are_the_same_digest_whatever_their_outputs(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("x = 1")
    path = notebook(tmp_path, ("x = 1", []))
    first = take(path, ["lib"])
    path.write_text(path.read_text().replace('"execution_count": 4', '"execution_count": 5'))
    assert take(path, ["lib"]).sha256 == first.sha256
    unpack(first.content, first.sha256, tmp_path / "out")
    assert (tmp_path / "out" / "lib" / "a.py").read_text() == "x = 1"


def test_a_missing_notebook_is_not_found_with_the_nearest_name(tmp_path: Path) -> None:
    notebook(tmp_path, name="01-track.ipynb")
    with pytest.raises(NotFound, match=r"Did you mean 01-track\.ipynb"):
        take(tmp_path / "01-trak.ipynb")


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_text("print(1)")
    with pytest.raises(Invalid, match="is not a notebook"):
        take(tmp_path / "n.ipynb")


@pytest.mark.parametrize("given", ["../secret", "/etc/passwd"])
def test_files_from_elsewhere_are_refused(given: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "work").mkdir()
    with pytest.raises(Invalid, match="outside the notebook's folder"):
        take(notebook(tmp_path / "work", ("x = 1", [])), [given])


@pytest.mark.parametrize("name", ["../up.py", "/abs.py", "a/../../up.py"])
def test_a_snapshot_that_leads_outside_is_not_unpacked(name: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    content = buffer.getvalue()
    with pytest.raises(Failed):
        unpack(content, hashlib.sha256(content).hexdigest(), tmp_path / "out")


def test_a_changed_snapshot_is_not_unpacked(tmp_path: Path) -> None:
    made = take(notebook(tmp_path, ("x = 1", [])))
    with pytest.raises(Failed, match="not what its digest says"):
        unpack(made.content[:-1], made.sha256, tmp_path / "out")


@pytest.mark.parametrize(
    ("cells", "parameters", "message"),
    [
        ([("trees = 60", ["parameters"])], {"tree": 1}, "sets no 'tree'. Did you mean trees?"),
        ([("trees = 60", [])], {"trees": 1}, "in a cell that is not tagged 'parameters'"),
    ],
)
def test_a_parameter_that_would_change_nothing_is_refused(
    cells: list[tuple[str, list[str]]], parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(Invalid) as caught:
        check_parameters(notebook(tmp_path, *cells), parameters)
    assert message in str(caught.value)


def test_known_parameters_pass(tmp_path: Path) -> None:
    check_parameters(notebook(tmp_path, ("trees: int = 60\na, b = 1, 2", ["parameters"])), {"trees": 1, "b": 2})
    check_parameters(notebook(tmp_path, ("print(trees)", [])), {"trees": 1})
