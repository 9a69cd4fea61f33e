"""`%%track` in a real IPython shell, on local files."""

import subprocess

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from tests.unit.tracking.mlflow_state import mlflow_forgets
from traitlets.config import Config

from themisto.settings import Settings
from themisto.tracking.magic import TrackMagics
from themisto.workbench import Workbench

TRAIN = """
from sklearn.linear_model import LogisticRegression
import mlflow
mlflow.log_metric("mine", 3)
model = LogisticRegression(C=2).fit(X, y)
model, {"auc": 0.9}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with mlflow_forgets():
        yield tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def shell():
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_cell(
        "import pandas as pd\nX = pd.DataFrame({'a': [0., 1., 2., 3.], 'b': [1., 0., 1., 0.]})\ny = [0, 0, 1, 1]"
    )
    return shell


@pytest.fixture
def magics(shell, home, monkeypatch):
    monkeypatch.chdir(home)
    return TrackMagics(shell, Workbench(Settings(home=home, url=None)))


@pytest.fixture
def client(magics):
    return magics.wb.tracking.connection.client


def test_a_cell_is_a_run_with_all_it_came_from(magics, client, home):
    for words in (
        ["init", "-q"],
        ["-c", "user.email=a@b", "-c", "user.name=a", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", home, *words], check=True)
    card = magics.track("-e delay -n first -t team=a --data X", TRAIN)
    run = client.get_run(card.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "first"
    assert run.data.metrics["auc"] == 0.9
    assert run.data.metrics["mine"] == 3
    assert run.data.params["C"] == "2"
    tags = run.data.tags
    assert tags["team"] == "a"
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["themisto.git_dirty"] == "false"
    assert tags["themisto.data.X.rows"] == "4"
    assert len(tags["themisto.data.X.sha256"]) == 64
    assert len(tags["themisto.lock_sha256"]) == 64
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["X"]
    assert "cell.py" in [f.path for f in client.list_artifacts(card.run_id)]
    import mlflow

    assert mlflow.artifacts.load_text(f"runs:/{card.run_id}/cell.py") == TRAIN
    logged = client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert logged.name == "model"
    loaded = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    assert loaded.metadata.signature is not None
    assert list(loaded.predict(magics.ns["X"])) == list(magics.ns["model"].predict(magics.ns["X"]))
    lineage = magics.wb.tracking.lineage(magics.ns["model"])
    assert lineage.run_id == card.run_id
    assert lineage.data_rows == 4
    assert lineage.metrics["auc"] == 0.9
    assert lineage.git_commit == tags["mlflow.source.git.commit"]


def test_nothing_is_tracked_after_the_cell(magics, client, shell):
    magics.track("-e quiet", TRAIN)
    before = len(client.search_runs([client.get_experiment_by_name("quiet").experiment_id]))
    shell.run_cell("model.fit(X, y)")
    import mlflow

    assert mlflow.active_run() is None
    assert len(client.search_runs([client.get_experiment_by_name("quiet").experiment_id])) == before


def test_no_autolog_logs_only_what_the_cell_logs(magics, client):
    card = magics.track("-e delay --no-autolog", TRAIN)
    assert "C" not in client.get_run(card.run_id).data.params


def test_a_body_that_raises_is_a_failed_run_with_its_traceback(magics, client, capsys):
    with pytest.raises(ZeroDivisionError):
        magics.track("-e failing", "kept = 1\n1/0")
    assert magics.ns["kept"] == 1
    run = client.search_runs([client.get_experiment_by_name("failing").experiment_id])[0]
    assert run.info.status == "FAILED"
    assert run.data.tags["themisto.error"] == "ZeroDivisionError: division by zero"
    assert "traceback.txt" in [f.path for f in client.list_artifacts(run.info.run_id)]
    assert "failed; what it logged and the traceback are kept" in capsys.readouterr().err


def test_ctrl_c_is_a_killed_run_and_says_so(magics, client, capsys):
    with pytest.raises(KeyboardInterrupt):
        magics.track("-e stopped", "raise KeyboardInterrupt")
    run = client.search_runs([client.get_experiment_by_name("stopped").experiment_id])[0]
    assert run.info.status == "KILLED"
    assert "was stopped" in capsys.readouterr().err


def test_an_unknown_frame_is_refused_before_the_cell_runs(magics):
    with pytest.raises(UsageError, match=r"no variable 'Xx'.*Did you mean X\?"):
        magics.track("-e delay --data Xx", "ran = True")
    assert "ran" not in magics.ns


def test_a_frame_that_the_cell_makes_is_digested_after_it(magics, client):
    card = magics.track("-e delay --data made", "made = X[X.a > 0].reset_index(drop=True)\nNone")
    assert client.get_run(card.run_id).data.tags["themisto.data.made.rows"] == "3"


def test_a_model_that_cannot_be_saved_costs_a_note_not_the_run(magics, client):
    cell = TRAIN.replace("model, {", "import threading\nmodel.lock_ = threading.Lock()\nmodel, {")
    card = magics.track("-e delay", cell)
    assert client.get_run(card.run_id).info.status == "FINISHED"
    assert "could not be saved" in card.note


def test_a_run_within_a_run_is_refused(magics):
    import mlflow

    experiment = magics.wb.tracking.connection.experiment_id("delay")
    with mlflow.start_run(experiment_id=experiment), pytest.raises(UsageError, match="A run is open in this kernel"):
        magics.track("-e delay", "ran_within = True")
    assert "ran_within" not in magics.ns


def test_runs_compare_and_register(magics):
    cards = [magics.track("-e listed", TRAIN.replace("C=2", f"C={c}")) for c in (1, 3)]
    table = magics.track('runs -e listed --order-by "metrics.auc DESC"')
    assert {row["run"] for row in table} == {card.run_id for card in cards}
    differing = {row["what"] for row in magics.track(f"compare {cards[0].run_id} {cards[1].run_id}") if row[""]}
    assert {"parameter C", "code cell"} <= differing
    assert "metric auc" not in differing
    assert "models:/credit/1" in repr(magics.track(f"register {cards[0].run_id} credit"))
    assert "models:/credit/2" in repr(magics.track(f"register {cards[1].run_id} credit"))


@pytest.mark.parametrize(
    ("line", "cell", "says"),
    [
        ("", "1", "-e/--experiment"),
        ("-e", "1", "expected one argument"),
        ("-e x -t nonsense", "1", "not KEY=VALUE"),
        ("-e x --nonsense", "1", "has no option --nonsense"),
        ("-e 'x", "1", "Close the quote"),
        ("nonsense", None, "knows no"),
        ("runs -e nowhere", None, "no experiment 'nowhere'"),
        ("register nowhere credit", None, "not found"),
        ("compare a b", None, "not found"),
    ],
)
def test_mistakes_are_told_in_a_sentence(magics, line, cell, says):
    with pytest.raises(UsageError, match=says):
        magics.track(line, cell)


def test_tab_knows_experiments_and_frames(magics):
    magics.track("-e delay", "None")
    assert "delay" in magics.complete("track", ["-e", ""])
    assert "X" in magics.complete("track", ["-e", "delay", "--data", ""])
    assert "y" not in magics.complete("track", ["-e", "delay", "--data", ""])
    assert "runs" in magics.complete("track", [""])


def test_the_card_escapes_what_people_write(magics):
    card = magics.track("-e '<script>alert(1)</script>' -n '<b>x</b>'", '{"<i>": 1}')
    assert "<i>" in card.note
    assert "<i>" not in card._repr_html_()
    assert "<script>" not in card._repr_html_()
    assert "<b>x" not in card._repr_html_()


def test_the_python_api_does_the_same(magics, client):
    tracking = magics.wb.tracking
    X = magics.ns["X"]
    with tracking.track("api", data=[X], tags={"team": "a"}) as run:
        run.result({"auc": 0.7})
    kept = client.get_run(run.run_id)
    assert kept.data.metrics == {"auc": 0.7}
    assert "themisto.data.X.sha256" in kept.data.tags
    assert run.card.status == "FINISHED"
