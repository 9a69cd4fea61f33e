"""A scheduled notebook that raises in cell 7: the job failed, cell and traceback are kept, it was retried as told."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tests.integration.workbench.conftest import until

pytestmark = pytest.mark.timeout(180)

SEVENTH = "rows = 812\nraise ValueError(f'{rows} values are missing')"
JOBS = """
import json
jobs = themisto.workbench.workbench().schedules.jobs("raises")
print(json.dumps([job.model_dump(mode="json") for job in jobs]))
"""


@pytest.fixture(scope="module")
def job(people, say, ready):
    """The job, once it has ended."""
    sources = [*(f"reached = {number}" for number in range(1, 7)), SEVENTH, "never = True"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(metadata={"kernelspec": kernel}, cells=[new_code_cell(s) for s in sources])
    people["scientist"].upload("tests/raises.ipynb", notebook)
    say('%schedule raises.ipynb --cron "0 3 1 1 *" --retries 1')
    say("%schedule run raises")
    last = {}

    def ended():
        (found,) = json.loads(say(JOBS).splitlines()[-1])
        last.update(found)
        return found["ended_at"] is not None

    assert until(ended, 150), last
    yield {**last, "seventh": notebook.cells[6].id}
    say("%schedule rm raises")


def test_it_failed_after_it_was_tried_as_often_as_told(job):
    assert job["state"] == "failed"
    assert job["attempt"] == 2


def test_the_failing_cell_and_its_traceback_are_kept(job):
    assert job["failed_cell"] == 6
    assert job["failed_cell_id"] == job["seventh"]
    assert job["message"] == "cell 7 raised ValueError: 812 values are missing"
    assert "ValueError: 812 values are missing" in job["traceback"]
    assert "----> 2 raise ValueError" in job["traceback"]


def test_the_output_holds_what_ran_and_no_more(job, say):
    text = say(f"print(themisto.workbench.workbench().schedules.output('raises', '{job['id']}').decode())")
    ran = nbformat.reads(text, as_version=4)
    states = [c.metadata.papermill.status for c in ran.cells if c.source.startswith(("reached", "rows", "never"))]
    assert states == ["completed"] * 6 + ["failed", "pending"]
    assert "output.html" in job["outputs"]


def test_the_author_sees_it_with_one_command(job, say):
    shown = say("%schedule jobs raises")
    assert "failed" in shown
    assert "cell 7 raised ValueError" in shown
