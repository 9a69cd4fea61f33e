"""JupyterLab with the built panel in headless Chromium, and a stand-in for the control plane behind it."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import sync_playwright
from tests.fakes.control_plane import ControlPlaneStandIn
from tests.jupyter import LOGIN, JupyterServer

from themisto.client import Discovery, GatewayAddress
from themisto.schedules.models import Job, Schedule
from themisto.serving.models import Endpoint
from themisto.serving.rollout import Rollout
from themisto_hub.control.api import WhoAmI
from themisto_hub.control.runs import RecentRun
from themisto_hub.control.usage import BudgetLine

SHOTS = Path("build/screenshots")
GROUP = "data-science"
JOB = "01JD7Z3K8Q4W5E6R7T8Y9V0ABC"
HOSTILE = "<img src=x onerror=alert(1)>"
_BUILT = Path("lab_extension/themisto_lab/labextension")
_NOW = datetime.now(UTC)

DISCOVERY = Discovery(
    version="0",
    gateway=GatewayAddress(http="http://127.0.0.1:8006", grpc="127.0.0.1:8007"),
    tracking="http://127.0.0.1:8000/services/tracking",
    review="http://localhost:8004",
    isolation="none",
    demo=True,
)
WHO = WhoAmI(name="scientist", groups=[GROUP], scopes=["deploy", "schedule"], profile="cpu-small")

BUDGET = BudgetLine(group=GROUP, profile="cpu-small", hours=31.25, cost="3.125")


def rollout(endpoint, release, state, **more):
    return Rollout(
        id=JOB,
        endpoint=endpoint,
        release=release,
        strategy="canary",
        weight_pct=30,
        state=state,
        requested_by="scientist",
        created_at=_NOW - timedelta(minutes=9),
        updated_at=_NOW - timedelta(minutes=3),
        **more,
    )


CANARY = Endpoint(
    name="flight_delay",
    group=GROUP,
    tier="dev",
    stable=3,
    candidate=4,
    weight_pct=30,
    strategy="canary",
    rollout=rollout("flight_delay", 4, "running", message="2,140 requests without an error"),
    updated_at=_NOW - timedelta(minutes=3),
)
WAITING = Endpoint(
    name="mortgage",
    group=GROUP,
    tier="prod",
    demo=True,
    stable=1,
    rollout=rollout("mortgage", 2, "waiting_approval", review_url=f"http://localhost:8004/approve/{JOB}"),
    updated_at=_NOW - timedelta(minutes=3),
)
SCHEDULE = Schedule(
    name="nightly",
    group=GROUP,
    owner="scientist",
    notebook="01-track.ipynb",
    cron="0 2 * * *",
    tz="Asia/Seoul",
    profile="cpu-small",
    timeout_s=60,
    snapshot_sha256="0" * 64,
    next_run_at=_NOW + timedelta(hours=9),
    last_job=Job(
        id=JOB,
        schedule="nightly",
        group=GROUP,
        owner="scientist",
        profile="cpu-small",
        due_at=_NOW - timedelta(hours=6),
        state="failed",
        ended_at=_NOW - timedelta(hours=6),
        message="ValueError: 812 values are missing",
        failed_cell=3,
        failed_cell_id="broken",
        parameters={"year": 2013},
        outputs=("output.ipynb",),
    ),
)
RUN = RecentRun(
    run_id="0" * 32,
    name=HOSTILE,
    experiment="delays",
    group=GROUP,
    status="finished",
    user="scientist",
    started_at=_NOW - timedelta(minutes=2),
    url="http://127.0.0.1:8000/services/tracking/",
)


def _output():
    broken = new_code_cell(
        "raise ValueError",
        id="broken",
        outputs=[new_output("error", ename="ValueError", evalue="812 values are missing", traceback=["ValueError"])],
    )
    injected = new_code_cell("year = 2013", metadata={"tags": ["injected-parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(
        metadata={"kernelspec": kernel}, cells=[injected, *(new_code_cell("pass\n" * 8) for _ in range(20)), broken]
    )


OUTPUT = _output()


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "Chromium is needed: apt-get install chromium"
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def stand_in():
    with ControlPlaneStandIn() as started:
        yield started


@pytest.fixture(scope="module")
def start_lab(free_base, tmp_path_factory):
    """Starts a JupyterLab with this environment; all are stopped at the end."""
    assert (_BUILT / "package.json").exists(), "The Lab extension is not built: make setup."
    extensions = tmp_path_factory.mktemp("labextensions")
    (extensions / "themisto-lab").symlink_to(_BUILT.absolute())
    started = []

    def start(**environment):
        options = [
            f"--LabApp.extra_labextensions_path={extensions}",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        server = JupyterServer(tmp_path_factory.mktemp("lab"), free_base(), environment, "jupyterlab", options)
        started.append(server)
        settings = server.home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def lab(start_lab, stand_in):
    return start_lab(THEMISTO_URL=stand_in.url, JUPYTERHUB_API_TOKEN="token-of-this-server")


@pytest.fixture
def control(stand_in):
    """A control plane with one rollout on its way, one that waits, a failed job and a run."""
    stand_in.reset()
    fill(stand_in)
    return stand_in


@pytest.fixture
def panel(chromium, lab, control):
    """A page of Lab with the panel open and filled."""
    shutil.rmtree(lab.home / "jobs", ignore_errors=True)
    page = open_panel(chromium, lab)
    page.locator(".themisto-Card").first.wait_for()
    yield page
    page.context.close()


def open_panel(browser, server, notebook=None, **look):
    """`look`: options of the browser's context, such as its colour scheme."""
    page = browser.new_context(viewport={"width": 1280, "height": 1200}, **look).new_page()
    page.goto(f"{server.url}/lab{f'/tree/{notebook}' if notebook else ''}?reset&token={LOGIN}")
    page.locator(".jp-NotebookPanel" if notebook else ".jp-LauncherCard").first.wait_for(timeout=60_000)
    page.locator("#jupyterlab-splash").wait_for(state="detached")  # now nothing of Lab's takes the focus any more
    page.locator("[data-id='themisto-sidebar']").click()
    page.locator(".themisto-Head").wait_for()
    return page


def fill(control):
    """A small workbench."""
    control.answer("/.well-known/themisto", DISCOVERY.model_dump(mode="json"))
    control.answer("whoami", WHO.model_dump(mode="json"))
    control.answer(
        "budget", [BudgetLine(group=GROUP, profile="cpu-small", hours=31.25, cost="3.125").model_dump(mode="json")]
    )
    control.answer("endpoints", [e.model_dump(mode="json") for e in (CANARY, WAITING)])
    control.answer("schedules", [SCHEDULE.model_dump(mode="json")])
    control.answer("runs", [RUN.model_dump(mode="json")])
    control.answer(f"schedules/nightly/jobs/{JOB}/output.ipynb", OUTPUT, kind="application/x-ipynb+json")
