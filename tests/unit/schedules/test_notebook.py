"""Notebooks run by themselves: what they leave, and where they failed. Real kernels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from themisto.schedules.notebook import Outcome, run_notebook


def ran(folder: Path, cells: list[str], parameters: dict[str, Any] | None = None, name: str = "n.ipynb") -> Outcome:
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    document.cells[0].metadata["tags"] = ["parameters"]
    work = folder / "work"
    work.mkdir()
    nbformat.write(document, work / name)
    return run_notebook(work / name, parameters or {}, folder)


def test_parameters_go_in_and_outputs_come_out(tmp_path: Path) -> None:
    link = f"print('http://x/#/experiments/1/runs/{'a' * 32}?w')"
    found = ran(tmp_path, ["trees = 60", "print('trees', trees)", link], {"trees": 30}, name="a{b}.ipynb")
    assert found.state == "succeeded"
    assert found.run_ids == ("a" * 32,)
    assert "trees 30" in found.outputs["output.ipynb"].decode()
    assert b"<html" in found.outputs["output.html"][:2000]


def test_values_are_data_not_code(tmp_path: Path) -> None:
    value = {"a": ["\"\n'; import os", 1.5, None, True]}
    found = ran(tmp_path, ["x = 1", "import json; print(json.dumps(x))"], {"x": value})
    assert json.dumps(value) in json.loads(found.outputs["output.ipynb"])["cells"][-1]["outputs"][0]["text"][0]


def test_a_notebook_that_raises_in_cell_seven_says_so_and_keeps_what_came_before(tmp_path: Path) -> None:
    cells = ["x = 1", *[f"print('cell {n}')" for n in range(2, 7)], "raise ValueError('no ' + str(x))", "y = 1"]
    found = ran(tmp_path, cells, {"x": 3})
    assert found.state == "failed"
    assert found.failed_cell == 6
    assert found.failed_cell_id
    assert found.error == "cell 7 raised ValueError: no 3"
    assert "ValueError: no 3" in found.traceback
    assert "\x1b" not in found.traceback
    assert "cell 6" in found.outputs["output.ipynb"].decode()


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("%load_ext themisto\n%pipeline show", "cell 2 raised UsageError: This notebook has no steps yet"),
        ("import sys; sys.exit(3)", "cell 2 raised SystemExit: 3"),
        ("import os; os.kill(os.getpid(), 9)", "cell 2: DeadKernelError"),
        ("x = = 1", "cell 2 raised SyntaxError"),
    ],
)
def test_whatever_stops_a_notebook_fails_the_job_at_its_cell(cell: str, error: str, tmp_path: Path) -> None:
    found = ran(tmp_path, ["x = 1", cell, "print('never')"])
    assert found.state == "failed"
    assert found.error.startswith(error)
    assert found.failed_cell == 1
    assert "output.ipynb" in found.outputs
