"""docs/feature-checks.md is true: its cells run in a shell, show what it says, and its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from IPython.core.interactiveshell import InteractiveShell

from themisto.features import comparing, skew, targets
from themisto.features.expectations import Expect
from themisto.features.magic import _LINE
from themisto.settings import Settings
from themisto.workbench import Workbench

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "feature-checks.md").read_text()
CELL = re.compile(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", re.DOTALL)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setattr("themisto.workbench._current", Workbench(Settings(url=None, home=tmp_path)))
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "themisto")
    return shell


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def test_the_cells_run_in_order_and_show_what_is_said(shell):
    cells = CELL.findall(DOCUMENT)
    assert len(cells) > 8
    for code, said in cells:
        done = shell.run_cell(code)
        if said.startswith("Failed: "):
            assert not done.success
            shown = f"{type(done.error_in_exec).__name__}: {done.error_in_exec}"
        else:
            assert done.success, done.error_in_exec or done.error_before_exec
            result = done.result
            shown = result.to_string() if hasattr(result, "to_string") else repr(result)
        for line in said.strip().splitlines():
            parts = [re.escape(squeezed(part)) for part in line.split("…")]
            assert re.search(r"\s*.*\s*".join(parts), squeezed(shown)), (line, shown)


def table(after: str) -> list[str]:
    rows = DOCUMENT.partition(after)[2].partition("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1].strip() for row in rows]


def test_the_kinds_of_skew_are_all_told_with_their_severity():
    kinds = table("| kind | the online store | severity |")
    assert kinds == list(get_args(skew.Kind)) == list(comparing._TOLD)
    for kind in kinds:
        assert re.search(rf"^\| {kind} \| .* \| {comparing._TOLD[kind][0]} \|$", DOCUMENT, re.MULTILINE)


def test_the_thresholds_are_those_of_the_code():
    assert f"**{targets.SUSPICIOUS['classification']}** of a class" in DOCUMENT
    assert f"**{targets.SUSPICIOUS['regression']}** of a number" in DOCUMENT
    assert f"**{targets.SURE}** on it is an error" in DOCUMENT
    assert f"{targets._SAMPLE:,} rows" in DOCUMENT
    assert f"at least {targets._LEAST} must" in DOCUMENT
    assert f"at most {targets.FEW} values" in squeezed(DOCUMENT)


def test_every_expectation_and_option_is_told():
    told = " ".join(table("| say | a row against it | empty values |"))
    assert set(re.findall(r"`(\w+)=", told)) == set(Expect.model_fields) - {"column"}
    for option in _LINE.verbs()["check"].options():
        assert f"`{option}`" in DOCUMENT or f"{option} " in DOCUMENT, option
