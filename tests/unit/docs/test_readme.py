"""What the README shows is what the notebook of the tour holds, and what it links to is there."""

import importlib
import re
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from themisto.magic import _VERBS

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()


def test_the_example_is_the_first_notebook_cell_for_cell():
    shown = [block.strip() for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)]
    notebook = nbformat.read(ROOT / "notebooks" / "00-twenty-lines.ipynb", as_version=4)
    cells = [c.source.strip() for c in notebook.cells if c.cell_type == "code"]
    assert shown == cells[: len(shown)]
    lines = [line for block in shown for line in block.splitlines() if line.strip()]
    assert len(lines) <= 20


@pytest.mark.parametrize("name", ["features", "deploy", "pipeline", "track", "schedule"])
def test_the_table_of_verbs_leaves_none_out(name):
    table = README.partition("## The verbs")[2].partition("\n## ")[0]
    row = rf"^\| (?:\*\*{name}\*\* )?\|.*%{name} .*$"
    said = {word for line in re.findall(row, table, re.MULTILINE) for word in re.findall(r"\w+", line.split("|")[2])}
    parsers = importlib.import_module(_VERBS[name]).MAGICS(InteractiveShell()).parsers[name]
    for parser in parsers:
        assert set(parser.verbs()) <= said


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_make_target_it_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_tags_it_explains_are_those_the_runner_knows():
    from themisto_hub.tour import notebook

    for tag in re.findall(r"^\| `([\w-]+)", README, re.MULTILINE):
        assert tag in notebook.__doc__, tag
