"""The server is killed while a cell runs: nothing is lost, nothing arrives twice."""

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from themisto.errors import Unavailable

FRAME = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
LABEL = [0, 0, 1, 1]


@pytest.fixture
def killed(server):
    """Call it to kill -9 the server; it is back afterwards."""
    yield server.kill
    server.start()


def run_through_a_kill(tracking, killed, tmp_path):
    import mlflow

    file = tmp_path / "notes.txt"
    file.write_text("what I saw")
    with tracking.track("outage", data={"frame": FRAME}, source="model = ...") as run:
        mlflow.log_metric("before", 1.0)
        killed()
        mlflow.log_metric("after", 2.0)
        mlflow.log_param("depth", 3)
        mlflow.set_tag("mood", "calm")
        mlflow.log_artifact(str(file))
        model = LogisticRegression().fit(FRAME, LABEL)
        run.result((model, {"auc": 0.75}))
    return run, model


def test_what_a_killed_server_missed_is_sent_once_by_the_next_run(tracking_of, server, killed, tmp_path):
    tracking = tracking_of("scientist")
    run, model = run_through_a_kill(tracking, killed, tmp_path)
    assert run.card.status == "FINISHED"
    assert "kept here" in run.card.note
    assert tracking.lineage(model).metrics["auc"] == 0.75

    server.start()
    with tracking.track("outage") as second:
        pass
    assert "earlier run" in second.card.note
    client = tracking.connection.client
    kept = client.get_run(run.run_id)
    assert kept.info.status == "FINISHED"
    assert {"before": 1.0, "after": 2.0, "auc": 0.75}.items() <= kept.data.metrics.items()
    assert kept.data.params["depth"] == "3"
    assert kept.data.params["C"] == "1.0"
    assert kept.data.tags["mood"] == "calm"
    assert {"notes.txt", "cell.py"} <= {f.path for f in client.list_artifacts(run.run_id)}
    assert len(kept.outputs.model_outputs) == 1
    assert len(client.get_metric_history(run.run_id, "after")) == 1
    assert not list(tracking.outbox.root.iterdir())
    assert tracking.sync() == 0
    uri = tracking.register(run.run_id, "outage-model")
    import mlflow

    assert list(mlflow.pyfunc.load_model(uri).predict(FRAME)) == list(model.predict(FRAME))


def test_sending_twice_changes_nothing(tracking_of, server, killed, tmp_path):
    from themisto.tracking.journal import send

    tracking = tracking_of("scientist")
    run, _ = run_through_a_kill(tracking, killed, tmp_path)
    server.start()
    client = tracking.connection.client
    box = next(tracking.outbox.waiting(tracking.connection.key))
    assert send(client, box) == 0
    box.release()  # as if the kernel had died before it could forget the box
    assert tracking.sync() == 1
    sent = client.get_run(run.run_id)
    assert len(sent.outputs.model_outputs) == 1
    assert (
        len(client.search_logged_models([sent.info.experiment_id], filter_string=f"source_run_id = '{run.run_id}'"))
        == 1
    )
    assert len(client.get_metric_history(run.run_id, "after")) == 1


def test_with_the_server_down_the_body_is_not_run(tracking_of, server, killed):
    tracking = tracking_of("scientist")
    killed()
    with pytest.raises(Unavailable, match=r"cannot be reached\. Nothing was started"):
        tracking.track("outage")
    server.start()
    with tracking.track("outage") as run:
        run.result({"auc": 0.5})
    assert run.card.status == "FINISHED"


def test_a_run_whose_kernel_died_is_closed_as_killed(tracking_of, server):
    from themisto.tracking.outbox import BoxLabel

    tracking = tracking_of("scientist")
    client = tracking.connection.client
    run = client.create_run(tracking.connection.experiment_id("outage"))
    label = BoxLabel(key=tracking.connection.key, run_id=run.info.run_id, experiment_id=run.info.experiment_id)
    tracking.outbox.begin(label).release()  # the lock goes with its process
    assert tracking.sync() == 1
    assert client.get_run(run.info.run_id).info.status == "KILLED"


def test_what_the_server_refuses_for_good_is_set_aside(tracking_of, server):
    from themisto.tracking.outbox import BoxLabel

    tracking = tracking_of("scientist")
    box = tracking.outbox.begin(BoxLabel(key=tracking.connection.key, run_id="e" * 32, experiment_id="1"))
    box.keep({"api": "SetTag", "body": {"run_id": "e" * 32, "key": "a", "value": "b"}})
    box.release()
    assert tracking.sync() == 0
    assert [f.name for f in (tracking.outbox.root.parent / "outbox-refused").iterdir()] == ["e" * 32]
    with tracking.track("outage") as run:
        pass
    assert run.card.status == "FINISHED"


def test_a_run_that_goes_on_in_another_kernel_is_left_alone(tracking_of, server):
    from themisto.tracking.outbox import BoxLabel, Outbox

    tracking = tracking_of("scientist")
    other = Outbox(tracking.outbox.root).begin(
        BoxLabel(key=tracking.connection.key, run_id="f" * 32, experiment_id="1")
    )
    assert tracking.sync() == 0
    other.discard()


def test_what_was_logged_survives_kill_9(tracking_of, server, killed):
    tracking = tracking_of("scientist")
    with tracking.track("survival") as run:
        run.result({"auc": 0.9})
    killed()
    server.start()
    kept = tracking.connection.client.get_run(run.run_id)
    assert kept.data.metrics == {"auc": 0.9}
    assert kept.info.status == "FINISHED"
