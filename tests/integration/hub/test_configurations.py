"""Hubs configured otherwise: somebody else's, with GPUs, with a culler in a hurry."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest
from tests.integration.hub.house import open_house

from themisto.errors import Failed

ROOT = Path(__file__).resolve().parents[3]
FOREIGN = """
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.spawner import SimpleLocalProcessSpawner
c.JupyterHub.authenticator_class = DummyAuthenticator
c.DummyAuthenticator.allow_all = True
c.JupyterHub.spawner_class = SimpleLocalProcessSpawner
"""
GPUS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.fakes.nvml import FakeGpu, FakeNvml
sys.modules["pynvml"] = FakeNvml([FakeGpu("a", slices=["1g.10gb", "1g.10gb"])])
"""
HURRY = """
c.Spawner.environment = {"JUPYTERHUB_ACTIVITY_INTERVAL": "1"}
"""
LEASE = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"


def test_a_foreign_hub_keeps_its_logins_and_spawner_and_gets_the_services(tmp_path):
    with open_house(tmp_path / "foreign", isolated=False, config=FOREIGN) as house:
        log = house.log("hub")
        assert "JupyterHub.authenticator_class is already set and was left alone" in log
        assert "JupyterHub.spawner_class is already set and was left alone" in log
        assert 'name="username"' in httpx.get(f"{house.url}/hub/login", timeout=10).text
        with house.service() as api:
            assert api.get("user").json()["name"] == "themisto"


def test_two_servers_never_get_the_same_slice_and_a_crash_frees_it(tmp_path):
    with (
        open_house(tmp_path / "gpus", isolated=False, config=GPUS) as house,
        house.browser("scientist") as first,
        house.browser("colleague") as second,
    ):
        first.start_server("gpu-mig-1g")
        second.start_server("gpu-mig-1g")
        leases = [house.run(b, LEASE).strip() for b in (first, second)]
        assert set(leases) == {"MIG-a-0", "MIG-a-1"}
        with pytest.raises(Failed, match=r"All of this machine's 2 MIG 1g\.10gb slices are in use"):
            first.start_server("gpu-mig-1g", "third")
        house.stop("hub", number=signal.SIGKILL)
        house.start("hub")
        with pytest.raises(Failed, match="are in use"):
            first.start_server("gpu-mig-1g", "third")
        pid = int(house.run(second, "import os; print(os.getppid())"))
        os.kill(pid, signal.SIGKILL)
        house.until(lambda: not second.server().get("ready"), what="the end of the server")
        first.start_server("gpu-mig-1g", "third")
        assert house.run(first, LEASE, "third").strip() == leases[1]


def test_an_idle_server_is_culled_and_one_with_a_silent_busy_kernel_is_not(tmp_path):
    config = HURRY + 'c.Spawner.args = ["--ServerApp.kernel_manager_class=themisto_hub.culling.BusyKernelManager", '
    config += '"--BusyKernelManager.busy_interval_s=1"]\n'
    with (
        open_house(tmp_path / "hurry", isolated=False, config=config, THEMISTO_IDLE_S="6") as house,
        house.browser("scientist") as busy,
        house.browser("colleague") as idle,
    ):
        busy.start_server("cpu-small")
        kernel = house.kernel(busy)
        kernel._send("import time; time.sleep(150)", "1")
        kernel.close()
        idle.start_server("cpu-small")
        until = time.monotonic() + 90
        while idle.server() and time.monotonic() < until:
            assert busy.server().get("ready")
            time.sleep(0.5)
        assert idle.server() == {}
        assert busy.server()["ready"]
