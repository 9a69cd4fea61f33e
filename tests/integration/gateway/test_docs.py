"""The examples of docs/gateway.md, run as they stand against a real gateway."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from themisto.serving.cell_magic import CELL, options_of

PAGE = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text()
SLOW = "import time\ndef predict(frame):\n    time.sleep(1)\n    return frame['x']\n"


def test_examples_run_one_after_the_other(gateway):
    gateway.load_function("slow--1", SLOW)
    gateway.publish(
        gateway.route("credit", gateway.target("credit", 1, 100)), gateway.route("slow", gateway.target("slow", 1, 100))
    )
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 4
    names = {"GATEWAY": gateway.url, "TOKEN": gateway.token()}
    for block in blocks:
        exec(compile(block, "docs/gateway.md", "exec"), names)


@pytest.mark.parametrize("line", re.findall(r"^%%deploy (.+)$", PAGE, re.MULTILINE))
def test_cells_are_what_the_magic_takes(line):
    parsed = CELL.parse_args(shlex.split(line))
    assert parsed.endpoint == "credit"
    options = options_of(parsed)
    assert options.rule or options.personal
