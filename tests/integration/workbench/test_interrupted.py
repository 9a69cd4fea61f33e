"""Ctrl-C during a deploy: a consistent state, one sentence on which, and what a person does next works."""

import os
import signal
import threading
import time

import pytest
from tests.integration.workbench.conftest import until

pytestmark = pytest.mark.timeout(120)


def interrupted(kernel, cell, when):
    """Run the cell and press Ctrl-C once `when()`: `(text, error)`."""
    done = {}
    thread = threading.Thread(target=lambda: done.update(answer=kernel(cell)))
    thread.start()
    try:
        assert until(when, 30)
    finally:
        kernel.interrupt()
        thread.join(60)
    assert not thread.is_alive(), "the cell did not end"
    return done["answer"]


@pytest.fixture
def endpoint(say, ready):
    """Reads an endpoint with the kernel's own token, beside the busy kernel; None where there is none."""
    import httpx

    url, token = say("c = themisto.workbench.workbench().control; print(c.url, c.token)").split()

    def read(name):
        headers = {"Authorization": f"token {token}"}
        answer = httpx.get(f"{url}/api/v1/endpoints/{name}", headers=headers, timeout=10, trust_env=False)
        return answer.json() if answer.status_code == 200 else None

    return read


def test_before_the_release_nothing_is_there_and_the_cell_can_be_run_again(kernel, say, endpoint):
    say(
        "pause = 60\n"
        "def slow(df):\n"
        "    time.sleep(pause)\n"
        "    return pd.DataFrame({'sum': df.a + df.b})\n"
        "slow.__module__ = '__main__'"
    )
    cell = "%%deploy unhurried --sample X\nslow"
    begun = time.monotonic()
    _, error = interrupted(kernel, cell, lambda: time.monotonic() - begun > 3)
    assert error is not None
    assert "UsageError: Interrupted at the stage" in error
    assert "no release was recorded and nothing has changed for callers" in error
    assert endpoint("unhurried") is None
    assert "There is no endpoint 'unhurried'" in kernel("%deploy status unhurried")[1]
    say("pause = 0")
    say(cell)
    assert endpoint("unhurried")["stable"] == 1


def test_after_the_release_it_goes_on_by_itself(kernel, say, services, endpoint):
    cell = "%%deploy goes_on --sample X\nmodel"
    triton = services.process("triton-dev")
    os.killpg(triton.pid, signal.SIGSTOP)
    try:
        _, error = interrupted(kernel, cell, lambda: endpoint("goes_on") is not None)
        assert error is not None
        assert "Interrupted while goes_on@1 was loading; it is recorded and goes on by itself" in error
        assert endpoint("goes_on")["stable"] is None
    finally:
        os.killpg(triton.pid, signal.SIGCONT)
    assert until(lambda: endpoint("goes_on")["stable"] == 1)
    say(cell)
    assert endpoint("goes_on")["stable"] == 1
    assert endpoint("goes_on")["candidate"] is None


def test_a_rollback_after_an_interrupt_leaves_what_answered_before(kernel, say, services, endpoint, probe):
    say("model = trained(31)")
    before = endpoint("probe")["stable"]
    triton = services.process("triton-dev")
    os.killpg(triton.pid, signal.SIGSTOP)
    try:
        rollout = lambda: endpoint("probe")["rollout"]  # noqa: E731
        _, error = interrupted(
            kernel, "%%deploy probe --sample X --replace\nmodel", lambda: rollout()["state"] == "loading"
        )
        assert error is not None
        assert "%deploy rollback probe" in error
        say("%deploy rollback probe")
    finally:
        os.killpg(triton.pid, signal.SIGCONT)
    assert endpoint("probe")["stable"] == before
    assert until(lambda: probe() == 200, 20)
    say("%%deploy probe --sample X --replace\nmodel")
    assert endpoint("probe")["stable"] > before
