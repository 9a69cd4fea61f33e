"""A job from a real hub: identity provider, proxy, hub and control plane as in a workbench, its owner logged out."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import pytest
import uvicorn
from pydantic import SecretStr
from tests.integration.hub.house import House, open_house

from themisto.schedules.models import Job
from themisto.schedules.service import Schedules
from themisto.settings import Settings
from themisto.workbench import Workbench
from themisto_hub.control.app import create_app
from themisto_hub.control.context import Control
from themisto_hub.control.schedules import worker
from themisto_hub.settings import Keys

REAL_JOB = f'c.LocalSpawner.job_command = [{sys.executable!r}, "-m", "themisto.schedules.job"]'


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.root)], ids=["one trust domain", "walled"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    if request.param and os.geteuid() != 0:
        pytest.skip("needs root")
    # Not below /tmp, which every walled server has of its own.
    folder = Path(tempfile.mkdtemp(prefix="themisto-jobs-", dir="/var/tmp"))
    try:
        folder.chmod(0o711)
        with open_house(folder, isolated=request.param, config=REAL_JOB) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def control(house: House) -> Iterator[Control]:
    house.settings.folder("control").mkdir(mode=0o700)
    made = Control(house.settings, Keys(hub_control=SecretStr(house.hub_token)))
    app = create_app(made, workers=(worker.run,))
    config = uvicorn.Config(app, port=house.settings.ports.control, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    health = f"{house.settings.control_url}/healthz"
    house.until(lambda: httpx.get(health, timeout=5).text == "ok", within_s=60, what="the control plane's route")
    yield made
    server.should_exit = True
    thread.join(20)


def schedules(house: House, user: str) -> Schedules:
    """What a person's own token may do, long after she has closed her browser."""
    with house.browser(user) as browser:
        token = browser.api("POST", f"users/{user}/tokens", json={"note": "test", "expires_in": 600}).json()["token"]
        browser.logout()
    return Workbench(Settings(url=house.settings.control_url, token=SecretStr(token))).schedules


def ended(found: Schedules, name: str, job: str, house: House) -> Job:
    until = time.monotonic() + 90
    while not (now := found.job(name, job)).ended:
        assert time.monotonic() < until, (now, house.log("hub")[-4000:])
        time.sleep(0.3)
    return now


def notebook(folder: Path, *cells: str) -> Path:
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    document.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(document, folder / "n.ipynb")
    return folder / "n.ipynb"


def test_a_job_runs_for_a_logged_out_owner_and_a_disabled_one_pauses_it(
    house: House, control: Control, tmp_path: Path
) -> None:
    mine = schedules(house, "scientist")
    file = notebook(
        tmp_path,
        "x = 1",
        "import getpass, os\nprint(getpass.getuser(), x, os.environ['THEMISTO_GROUP'])",
        "from themisto.client import ControlPlane\nfrom themisto.settings import Settings\n"
        "me = ControlPlane(Settings()).whoami\nprint(me['name'], {'approve', 'admin'} & set(me['scopes']))",
    )
    mine.create(file, cron="0 2 * * *", parameters={"x": 7}, name="nightly")
    job = ended(mine, "nightly", mine.run("nightly").id, house)
    assert job.state == "succeeded", (job, house.log("hub")[-3000:])
    text = mine.output("nightly", job.id).decode()
    assert "scientist 7 data-science" in text
    assert "scientist set()" in text
    with house.service() as api:
        house.until(lambda: not api.get("users/scientist").json()["servers"], what="the end of the job's server")

    house.edit_user("scientist", disabled=True)
    time.sleep(1)
    refused = ended(mine, "nightly", mine.run("nightly").id, house)
    assert refused.state == "failed"
    assert "no longer vouches" in refused.message
    with control.db.read() as session:
        assert control.audit.verify(session).intact
