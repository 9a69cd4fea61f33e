"""A service is away while a magic runs: one sentence, nothing half-done, the same command works afterwards."""

import pytest
from tests.integration.workbench.conftest import until

pytestmark = pytest.mark.timeout(120)

RELEASES = "print([r.number for r in themisto.workbench.workbench().serving.releases('probe')])"
VERSIONS = (
    "import mlflow; print(sorted(v.version for v in mlflow.MlflowClient().search_model_versions(\"name='probe'\")))"
)
PREDICT = "print(themisto.endpoint('probe').predict(X.head(2)).attrs['release'])"


@pytest.fixture
def next_model(say, probe):
    """`model` is one that was never deployed: the releases and versions there were before it."""
    say("trees = globals().get('trees', 5) + 1\nmodel = trained(trees)")
    return say(RELEASES), say(VERSIONS)


def deployed_once(say, before):
    """The cell went through now, and left one more release and one more version."""
    say("%%deploy probe --sample X --replace\nmodel")
    for now, then in zip((say(RELEASES), say(VERSIONS)), before, strict=True):
        assert len(now.split(",")) == len(then.split(",")) + 1, (then, now)


def test_control_plane_down_during_a_deploy(services, say, refused, next_model):
    with services.down("control"):
        told = refused("%%deploy probe --sample X --replace\nmodel")
        assert "control plane cannot be reached" in told
    deployed_once(say, next_model)


def test_control_plane_down_is_one_sentence_in_every_verb(services, say, refused, probe):
    cells = ["%deploy status", "%deploy rollback probe", "%features list", "%schedule list", "%themisto budget"]
    stable = say("print(themisto.workbench.workbench().serving.status('probe').stable)")
    with services.down("control"):
        for cell in cells:
            assert "control plane cannot be reached" in refused(cell), cell
    assert say("print(themisto.workbench.workbench().serving.status('probe').stable)") == stable


def test_tracking_server_down_during_a_deploy(services, say, refused, next_model):
    with services.down("tracking"):
        told = refused("%%deploy probe --sample X --replace\nmodel")
        assert "tracking server" in told
        assert say(RELEASES) == next_model[0]
    deployed_once(say, next_model)


def test_tracking_server_down_before_a_run_starts_nothing(services, say, refused, ready):
    cell = (
        "%%track -e outages -n again\nimport mlflow\nruns = globals().get('runs', 0) + 1\nmlflow.log_metric('m', runs)"
    )
    with services.down("tracking"):
        assert "tracking server" in refused(cell)
    say(cell)
    assert say("print(runs)") == "1", "the cell's body ran although nothing could be recorded"


def test_triton_down_during_a_deploy(services, say, refused, next_model):
    say("import themisto.serving.deploying as d; patience, d._WAIT_S = d._WAIT_S, 4.0")
    try:
        with services.down("triton-dev"):
            told = refused("%%deploy probe --sample X --replace\nmodel")
            assert "still loading" in told
            assert "Run the same cell again" in told
    finally:
        say("d._WAIT_S = patience")
    deployed_once(say, next_model)


def test_gateway_down_during_a_prediction(services, kernel, say, refused, probe):
    with services.down("envoy"):
        _, error = kernel(PREDICT)
        assert error is not None
        assert error.startswith("Unavailable: The gateway cannot be reached. Run the same command again")
        assert "gateway cannot be reached" in refused("%deploy test probe")
    assert until(lambda: kernel(PREDICT)[1] is None, 20)
    say("%deploy test probe")


def test_triton_down_during_a_prediction(services, kernel, probe):
    with services.down("triton-dev"):
        _, error = kernel(PREDICT)
        assert error is not None
        assert error.startswith("Unavailable: 'probe' does not answer now")
    assert until(lambda: kernel(PREDICT)[1] is None, 30)
