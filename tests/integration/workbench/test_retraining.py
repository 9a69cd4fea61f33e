"""Labels that come late show a model wrong: its schedule trains another one, which waits as anybody's would."""

import json

import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tests.integration.workbench.conftest import MODEL, until

pytestmark = pytest.mark.timeout(240)

GATE = "--gate 'accuracy >= 0.8' --label y"
FIRST = f"%%deploy retrained --tier prod --replace --sample X {GATE} --holdout held\nmodel"
AGAIN = f"%%deploy retrained --tier prod --replace --sample X {GATE} --holdout same\ntrained(9)"
STATE = """
import json
from themisto.workbench import workbench
print(json.dumps({
    "endpoint": workbench().serving.status("retrained").model_dump(mode="json"),
    "jobs": [job.model_dump(mode="json") for job in workbench().schedules.jobs("retrain-it")],
}))
"""
ASK = """
try:
    print(len(themisto.endpoint("retrained").predict(X.head(60))))
except themisto.errors.ThemistoError as error:
    print(error)
"""
WRONG = """
log = %deploy log retrained --limit 200
name = "outputs.label" if "outputs.label" in log else "label"
log = log.dropna(subset=[name]) if name in log else log.head(0)  # an early request may have had no answer
truth = log.loc[:, ["request_id", "row"]] if len(log) else log
if len(log):
    truth["label"] = 1 - log[name].astype(int)
print(len(truth))
"""


def state(say):
    return json.loads(say(STATE).splitlines()[-1])


@pytest.fixture(scope="module")
def stable(people, say, ready):
    """`retrained@1`, approved and in production, and the schedule that is to train the next one."""
    sources = [MODEL, AGAIN]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(metadata={"kernelspec": kernel}, cells=[new_code_cell(source) for source in sources])
    people["scientist"].upload("tests/retrain-it.ipynb", notebook)
    say("held = X.assign(y=y)")
    say(FIRST)
    people["reviewer"].review("retrained", approve=True)
    say('%schedule retrain-it.ipynb --cron "0 3 1 1 *"')
    say("%deploy retrain retrained --schedule retrain-it --on gate")
    assert until(lambda: state(say)["endpoint"]["stable"] == 1), state(say)
    yield
    say("%deploy retrain retrained --off")
    say("%schedule rm retrain-it")


def test_late_labels_start_the_schedule_and_what_it_deploys_waits_for_its_gates_and_a_person(stable, say, people):
    assert until(lambda: say(ASK).endswith("60"), 20)
    assert until(lambda: int(say(WRONG).splitlines()[-1]) >= 60, 30)
    say("%deploy label retrained truth")

    def ended():
        jobs = state(say)["jobs"]
        return bool(jobs) and jobs[0]["ended_at"] is not None

    assert until(ended, 150), state(say)
    now = state(say)
    (job,) = now["jobs"]
    assert job["state"] == "succeeded", job
    assert "started retrain-it: accuracy is 0" in say("%deploy gates retrained")
    endpoint, rollout = now["endpoint"], now["endpoint"]["rollout"]
    assert (endpoint["stable"], rollout["release"], rollout["state"]) == (1, 2, "waiting_approval")
    assert [(gate["source"], gate["passed"]) for gate in rollout["gates"]] == [("holdout", True)]
    assert say("print(themisto.endpoint('retrained').predict(X.head(1)).attrs['release'])") == "retrained@1"
    people["reviewer"].review("retrained", approve=True)
    assert until(lambda: state(say)["endpoint"]["stable"] == 2), state(say)
