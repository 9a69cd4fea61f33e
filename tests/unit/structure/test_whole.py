"""`make test` runs every folder of tests."""

from __future__ import annotations

import runpy
from pathlib import Path

TESTS = Path(__file__).parents[2]
APART = {"tests/ring", "tests/torch"}  # make test-ring, make test-torch


def test_no_folder_of_tests_is_left_out() -> None:
    named = runpy.run_path(str(TESTS.parent / "scripts" / "run-tests.py"))["ALL"]
    folders = {f"tests/{file.relative_to(TESTS).parts[0]}" for file in TESTS.rglob("test_*.py")}
    assert folders - APART == {word for word in named if word.startswith("tests/")}
