"""A notebook of 200 cells as a job runs it (papermill, output and HTML), beside plain nbclient and nbconvert."""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from tests.benchmarks.record import Record, median_s

from themisto.schedules.notebook import run_notebook

CELLS = 200


def run(record: Record) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "notebook.ipynb"
        cells = [nbformat.v4.new_code_cell(f"x = {n}\nprint('cell', x)") for n in range(CELLS)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), file)

        def ours() -> None:
            with tempfile.TemporaryDirectory() as folder:
                assert run_notebook(file, {}, Path(folder)).state == "succeeded"

        def peer() -> None:
            notebook = nbformat.read(file, as_version=4)
            NotebookClient(notebook, resources={"metadata": {"path": name}}).execute()
            HTMLExporter().from_notebook_node(notebook)

        ours_s, peer_s = median_s(ours, runs=3), median_s(peer, runs=3)
        record.add("papermill_200_s", "s", ours_s, peer_s, "nbclient and nbconvert")
