"""docs/gates.md is true: its cells run in a shell, show what it says, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from tests.fakes.serving_plane import ServingPlane

from themisto.serving.gates import METRICS, MIN_SLICE
from themisto.serving.holdout import MAX_BYTES, MAX_ROWS
from themisto.serving.judging import MAX_SLICES
from themisto.settings import Settings
from themisto.tracking.service import Tracking
from themisto.workbench import Workbench

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "gates.md").read_text()
CELL = re.compile(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", re.DOTALL)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    plane = ServingPlane().start()
    monkeypatch.chdir(tmp_path)
    bench = Workbench(Settings(url=plane.url, token="token", home=tmp_path, timeout_s=5))
    bench.tracking = Tracking(bench.settings, None)  # MLflow in files: the plane has no tracking server
    monkeypatch.setattr("themisto.workbench._current", bench)
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "themisto")
    yield shell
    plane.stop()


def test_the_cells_run_in_order_and_show_what_is_said(shell):
    cells = CELL.findall(DOCUMENT)
    assert len(cells) > 4
    for code, said in cells:
        done = shell.run_cell(code)
        if said.startswith("UsageError: "):
            assert not done.success
            shown = f"UsageError: {done.error_in_exec}"
        else:
            assert done.success, done.error_in_exec or done.error_before_exec
            shown = repr(done.result)
        for line in said.strip().splitlines():
            parts = [re.escape(re.sub(r"\s+", " ", part)) for part in line.strip().split("…")]
            assert re.search(".*".join(parts), re.sub(r"\s+", " ", shown)), (line, shown)


def test_the_table_of_metrics_is_whole():
    table = DOCUMENT.partition("| metric |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        names, reads, better = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", names):
            metric = METRICS[name]
            assert set(metric.reads) == set(re.findall(r"`(\w+)`", reads)), name
            assert metric.higher_is_better == (better == "higher"), name
    assert set(re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines()[2:]))) == set(METRICS)


def test_the_limits_are_those_of_the_code():
    assert f"under {MIN_SLICE} rows" in DOCUMENT
    assert f"more than {MAX_SLICES} values" in DOCUMENT
    assert f"at most {MAX_ROWS:,} rows and {MAX_BYTES // 2**20} MiB" in DOCUMENT
