"""Culling: a busy kernel is active at every moment, an idle one is not."""

import types
from datetime import UTC, datetime

from themisto_hub.culling import BusyKernelManager, culler_service

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def manager(state: str) -> BusyKernelManager:
    made = BusyKernelManager()
    made.last_kernel_activity = LONG_AGO
    made._kernels = {"1": types.SimpleNamespace(execution_state=state, last_activity=LONG_AGO)}
    made._note_busy()
    return made


async def test_a_busy_kernel_counts_as_activity():
    assert manager("busy").last_kernel_activity > LONG_AGO


async def test_an_idle_kernel_does_not():
    for state in ("idle", "starting", "dead"):
        assert manager(state).last_kernel_activity == LONG_AGO


def test_the_culler_runs_under_its_own_uid_and_ends_with_the_hub():
    service = culler_service("token", idle_s=60, every_s=10, run_as=690_020)
    assert service["command"][:3] == ["setpriv", "--pdeathsig", "TERM"]
    assert "690020" in service["command"]
    assert service["command"][-2:] == ["--timeout=60", "--cull-every=10"]
