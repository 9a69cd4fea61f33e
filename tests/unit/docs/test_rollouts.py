"""docs/rollouts.md: its lines are understood, its examples come out, its picture is there."""

import doctest
import re
from pathlib import Path
from xml.etree import ElementTree as ET

from themisto.serving.cell_magic import CELL, options_of
from themisto.serving.magic import _LINE
from themisto.serving.moving import rollout_request
from themisto.serving.order import Order
from themisto.serving.service import Serving

DOCS = Path(__file__).resolve().parents[3] / "docs"
TEXT = (DOCS / "rollouts.md").read_text()


def test_every_line_it_shows_is_understood():
    lines = re.findall(r"^%%deploy (.+)$", TEXT, re.MULTILINE)
    asked = [Order.of("credit", "data-science", options_of(CELL.parse_line(line))).rollout for line in lines]
    assert [(r.strategy, r.steps, r.manual) for r in asked] == [
        ("canary", (5, 30, 100), False),
        ("canary", (10, 30, 100), False),
        ("canary", (1, 5, 30, 100), False),
        ("canary", (5, 30, 100), True),
        ("canary", (5, 30, 100), False),
        ("ab", (), False),
        ("shadow", (), False),
        ("replace", (), False),
    ]


def test_every_verb_it_shows_is_understood_and_is_there_in_python_too():
    rows = re.findall(r"^\| `%deploy (\w+ credit[^`]*)` \|.*\| `(\w+)\(\"credit\"", TEXT, re.MULTILINE)
    assert [_LINE.parse_line(line).handler.__name__ for line, _ in rows] == [f"_{method}" for _, method in rows]
    assert [method for _, method in rows] == ["step", "pause", "resume", "promote", "rollback"]
    assert all(hasattr(Serving, method) for _, method in rows)


def test_its_examples_come_out_as_they_stand():
    found = doctest.testfile(str(DOCS / "rollouts.md"), module_relative=False)
    assert (found.attempted, found.failed) == (5, 0)


def test_its_numbers_are_those_of_the_code():
    from themisto_hub.control.serving import analysis, steps, votes

    assert (analysis.ALPHA, analysis.BETA, analysis.ENOUGH) == (0.01, 0.05, 2000)
    assert (steps.PATIENCE.total_seconds() / 3600, votes.OUTAGE) == (24, 20)
    for said in ("1 % a rollout", "at most 5 % a step", "2,000 answers", "24 hours", "Twenty failures in a row"):
        assert said in TEXT, said
    tolerated = rollout_request().tolerated
    assert (tolerated.errors, tolerated.slow, tolerated.outputs) == (0.01, 0.05, 0.10)


def test_its_picture_is_there_and_whole():
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert ET.parse(DOCS / picture).getroot().tag.endswith("svg")
