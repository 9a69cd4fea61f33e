"""What the README shows is what the notebook of the tour holds, and what it links to is there."""

import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()


def test_the_example_is_the_first_notebook_cell_for_cell():
    shown = [block.strip() for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)]
    notebook = nbformat.read(ROOT / "notebooks" / "00-twenty-lines.ipynb", as_version=4)
    cells = [c.source.strip() for c in notebook.cells if c.cell_type == "code"]
    assert shown == cells[: len(shown)]
    lines = [line for block in shown for line in block.splitlines() if line.strip()]
    assert len(lines) <= 20


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
