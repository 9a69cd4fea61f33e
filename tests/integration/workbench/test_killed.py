"""`kill -9` of each service under `make up`: it comes back, nothing is lost, predictions go on where promised."""

import time

import pytest
from tests.integration.workbench.conftest import until

pytestmark = pytest.mark.timeout(120)


def asked_while(probe, back, seconds=60):
    """Statuses of predictions asked for from now until `back()` and a little longer."""
    statuses, end = [], time.monotonic() + seconds
    returned = False
    while time.monotonic() < end:
        statuses.append(probe())
        if returned and len(statuses) > 20:
            return statuses
        returned = returned or back()
        time.sleep(0.05)
    raise AssertionError("it did not come back")


@pytest.mark.parametrize("service", ["hub", "control", "tracking", "idp", "predictions", "triton-prod", "pool"])
def test_no_prediction_is_lost_while_a_service_behind_is_down(services, probe, service):
    pid = services.kill(service)
    statuses = asked_while(probe, lambda: services.is_back(service, pid))
    assert set(statuses) == {200}


def test_a_hub_killed_between_each_two_steps_of_a_rollout_moves_nothing_and_loses_nothing(services, probe, say):
    say("%%deploy probe --sample X --steps 20,60,100 --manual\ntrained(7)")
    for share in ("[20 %]", "[60 %]"):
        pid = services.kill("hub")
        statuses = asked_while(probe, lambda pid=pid: services.is_back("hub", pid))
        assert set(statuses) == {200}
        assert until(lambda: services.answers("control"))
        assert share in say("%deploy status probe")
        say("%deploy step probe")
    assert "stable, all traffic" in say("%deploy status probe")


def test_a_killed_transformer_comes_back_and_others_answer_meanwhile(services, probe):
    pid = services.kill("transformer")
    statuses = asked_while(probe, lambda: services.is_back("transformer", pid))
    assert set(statuses) == {200}


def test_a_killed_triton_gets_its_models_back(services, probe):
    pid = services.kill("triton-dev")
    assert until(lambda: services.is_back("triton-dev", pid))
    assert until(lambda: probe() == 200), "the endpoint did not answer again"


def test_a_killed_gateway_comes_back_with_its_routes(services, probe):
    pid = services.kill("envoy")
    assert until(lambda: services.is_back("envoy", pid))
    assert until(lambda: probe() == 200), "the gateway did not answer again"


def test_a_kernel_and_its_variables_outlive_the_hub(services, say):
    say("kept = 42")
    pid = services.kill("hub")
    assert until(lambda: services.is_back("hub", pid))
    assert say("print(kept)") == "42"


def test_a_kernel_and_its_variables_outlive_the_proxy(services, kernel, say, probe):
    say("kept = 43")
    pid = services.kill("proxy")
    statuses = asked_while(probe, lambda: services.is_back("proxy", pid))
    assert set(statuses) == {200}
    assert until(lambda: services.answers("control")), "the hub did not tell the new proxy its routes"
    kernel.reconnect()
    assert say("print(kept)") == "43"


def test_what_was_recorded_is_there_after_all_that(say, probe):
    """The release and its predictions: the stores behind lost nothing, and the log goes on."""
    release = say("print(themisto.endpoint('probe').predict(X.head(2)).attrs['release'])")
    assert release in say("%deploy status probe")
    logged = "newest = %deploy log probe --limit 5\nprint(list(newest.release))"
    assert until(lambda: release in say(logged), 20)
    assert "probe@1" in say("%deploy releases probe")
