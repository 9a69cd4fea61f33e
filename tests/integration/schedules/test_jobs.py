"""From `%schedule` to a job's outputs: the real control plane over HTTP, the real job process, a real kernel."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
import uvicorn
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from pydantic import SecretStr
from tests.fakes.hub_identity import HubIdentity
from tests.fakes.hub_servers import JobHub

import themisto.workbench
from themisto.client import ControlPlane
from themisto.errors import NotFound, Unavailable
from themisto.schedules.models import Job
from themisto.schedules.service import Schedules
from themisto.settings import Settings
from themisto.workbench import Workbench
from themisto_hub.control.app import create_app
from themisto_hub.control.context import Control
from themisto_hub.control.schedules import worker
from themisto_hub.settings import Deployment, Keys

SCOPES = ["custom:themisto:schedule", "custom:themisto:audit"]


class House:
    """A control plane on a port of its own, with the scheduler running, and a hub of job processes."""

    def __init__(self, folder: Path, base: int) -> None:
        self.settings = Deployment(state=folder / "state", port=base, profiles_dir=Path("profiles").absolute())
        self.settings.folder("control").mkdir(parents=True)
        self.url = f"http://127.0.0.1:{self.settings.ports.control}/services/themisto"
        self.identity = HubIdentity().start()
        self.token = self.identity.add("scientist", ["data-science"], scopes=SCOPES)
        self.identity.add("reviewer", ["model-risk"], scopes=SCOPES[:1])
        self.hub = JobHub(self.identity, base + 5, self.url, folder)
        self._server: uvicorn.Server | None = None
        self.start()

    def start(self) -> None:
        control = Control(self.settings, Keys(), hub=self.hub)
        app = create_app(control, workers=(worker.run,))
        config = uvicorn.Config(app, port=self.settings.ports.control, log_level="warning", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(20)

    def close(self) -> None:
        self.stop()
        self.hub.end()
        self.identity.stop()

    def workbench(self) -> Workbench:
        return Workbench(Settings(url=self.url, token=SecretStr(self.token), group="data-science"))

    @property
    def schedules(self) -> Schedules:
        return self.workbench().schedules

    def until_ended(self, name: str, job: str, within_s: float = 90) -> Job:
        until = time.monotonic() + within_s
        while not (found := self.schedules.job(name, job)).ended:
            assert time.monotonic() < until, (found, self.logs())
            time.sleep(0.3)
        return found

    def logs(self) -> str:
        return "\n".join(p.read_text() for p in self.hub._folder.glob("job-*/log"))


@pytest.fixture
def house(tmp_path: Path, free_base: Any) -> Iterator[House]:
    made = House(tmp_path, free_base())
    yield made
    made.close()


@pytest.fixture
def shell(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    work = tmp_path / "notebooks"
    work.mkdir()
    monkeypatch.chdir(work)
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance()
    themisto.workbench._current = house.workbench()
    made.run_line_magic("load_ext", "themisto")
    yield made
    InteractiveShell.clear_instance()
    themisto.workbench._current = None


def notebook(name: str, *cells: str) -> None:
    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    document.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(document, name)


def test_a_scheduled_notebook_runs_by_itself_with_its_parameters_and_files(
    house: House, shell: InteractiveShell
) -> None:
    Path("helper.py").write_text("def double(x): return 2 * x")
    notebook(
        "report.ipynb",
        "trees = 60",
        "import os, pathlib\nfiles = sorted(p.name for p in pathlib.Path().iterdir())",
        "import helper\nprint('doubled', helper.double(trees), files)",
        "print('token' if os.environ.get('JUPYTERHUB_API_TOKEN') else 'none', os.environ['THEMISTO_URL'])",
    )
    line = 'report.ipynb --cron "0 2 * * *" --tz Asia/Seoul -p trees=30 --with helper.py --name nightly'
    card = shell.run_line_magic("schedule", line)
    assert "02:00 KST" in repr(card)
    shell.run_line_magic("schedule", "run nightly")
    job = house.until_ended("nightly", house.schedules.jobs("nightly")[0].id)

    assert job.state == "succeeded", (job, house.logs())
    assert job.profile == "job-small"
    assert job.outputs == ("output.html", "output.ipynb")
    text = house.schedules.output("nightly", job.id).decode()
    assert "doubled 60 ['helper.py', 'report.ipynb']" in text
    assert f"token {house.url}" in text
    assert house.hub.asked[0]["user_options"] == {"profile": "job-small", "group": "data-science"}
    page = httpx.get(
        f"{house.url}/api/v1/schedules/nightly/jobs/{job.id}/output.html",
        headers={"Authorization": f"token {house.token}"},
    )
    assert page.headers["content-security-policy"].startswith("sandbox")
    assert "<html" in page.text[:2000]
    until = time.monotonic() + 20
    while house.hub.user("scientist")["servers"]:
        assert time.monotonic() < until, "its server is stopped"
        time.sleep(0.2)
    assert "nightly" in repr(shell.run_line_magic("schedule", "list"))
    assert "succeeded" in repr(shell.run_line_magic("schedule", "jobs nightly"))


def test_a_notebook_that_raises_in_cell_seven_is_retried_as_told_and_keeps_cell_and_traceback(
    house: House, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from themisto_hub.control.schedules import reports

    monkeypatch.setattr(reports, "_PAUSE", timedelta(seconds=1))
    notebook("bad.ipynb", "x = 1", *["print(x)"] * 5, "raise ValueError('no ' + str(x))", "print('never')")
    shell.run_line_magic("schedule", 'bad.ipynb --cron "0 2 * * *" --retries 1')
    shell.run_line_magic("schedule", "run bad")
    job = house.until_ended("bad", house.schedules.jobs("bad")[0].id)
    assert (job.state, job.attempt, job.failed_cell) == ("failed", 2, 6)
    assert job.message == "cell 7 raised ValueError: no 1"
    assert "ValueError: no 1" in job.traceback
    assert len({asked["name"] for asked in house.hub.asked}) == 2
    output = json.loads(house.schedules.output("bad", job.id))
    assert any(o.get("ename") == "ValueError" for c in output["cells"] for o in c.get("outputs", []))


def test_a_job_outlives_a_restart_of_the_control_plane(house: House, shell: InteractiveShell) -> None:
    notebook("slow.ipynb", "pause = 4", "import time; time.sleep(pause); print('awake')")
    shell.run_line_magic("schedule", 'slow.ipynb --cron "0 2 * * *"')
    shell.run_line_magic("schedule", "run slow")
    job = house.schedules.jobs("slow")[0].id
    until = time.monotonic() + 40
    while house.schedules.job("slow", job).state != "running":
        assert time.monotonic() < until, house.logs()
        time.sleep(0.1)
    house.stop()
    with pytest.raises(Unavailable):
        house.schedules.list()
    with pytest.raises(UsageError, match="cannot be reached"):
        shell.run_line_magic("schedule", "list")
    time.sleep(6)
    house.start()
    assert house.until_ended("slow", job).state == "succeeded"
    assert len(house.hub.asked) == 1


def test_a_job_whose_process_is_killed_is_lost_and_run_again(
    house: House, shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from themisto_hub.control.schedules import reports

    monkeypatch.setattr(reports, "_PAUSE", timedelta(seconds=1))
    mark = tmp_path / "seen"
    notebook(
        "killed.ipynb",
        f"mark = {str(mark)!r}",
        "import pathlib, time\nseen = pathlib.Path(mark).exists()",
        "pathlib.Path(mark).touch()\ntime.sleep(0 if seen else 60)",
    )
    shell.run_line_magic("schedule", 'killed.ipynb --cron "0 2 * * *"')
    shell.run_line_magic("schedule", "run killed")
    job = house.schedules.jobs("killed")[0].id
    until = time.monotonic() + 40
    while not mark.exists():
        assert time.monotonic() < until, house.logs()
        time.sleep(0.1)
    house.hub.kill(house.hub.asked[0]["name"])
    found = house.until_ended("killed", job)
    assert (found.state, found.attempt) == ("succeeded", 2), (found, house.logs())


def test_the_owners_other_token_cannot_act_for_the_job(house: House, shell: InteractiveShell) -> None:
    notebook("n.ipynb", "x = 1", "import time; time.sleep(3)")
    shell.run_line_magic("schedule", 'n.ipynb --cron "0 2 * * *"')
    shell.run_line_magic("schedule", "run n")
    job = house.schedules.jobs("n")[0].id
    control = ControlPlane(Settings(url=house.url, token=SecretStr(house.token)))
    for method, path in (
        ("GET", "jobs/mine"),
        ("GET", f"jobs/{job}/snapshot"),
        ("PUT", f"jobs/{job}/outputs/output.html"),
    ):
        with pytest.raises(NotFound):
            control.request(method, path, content=b"x" if method == "PUT" else None)
    with pytest.raises(NotFound):
        control.post(f"jobs/{job}/report", {"state": "succeeded", "seconds": 1.0})
    with pytest.raises(NotFound):
        ControlPlane(Settings(url=house.url, token=SecretStr("token-of-reviewer"))).get(f"schedules/n/jobs/{job}")
    house.until_ended("n", job)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('missing.ipynb --cron "0 2 * * *"', "There is no notebook 'missing.ipynb'"),
        ('n.ipynb --cron "61 * * * *"', "The cron '61 * * * *' will not do"),
        ('n.ipynb --cron "every day"', "five fields are needed"),
        ('n.ipynb --cron "0 2 * * *" --tz Mars/Base', "no such time zone"),
        ('n.ipynb --cron "0 2 * * *" -p "a b=1"', "The parameter 'a b' will not do"),
        ('n.ipynb --cron "0 2 * * *" -p tree=1', "Did you mean trees?"),
        ('n.ipynb --cron "0 2 * * *" --profile none', "There is no profile 'none'"),
        ('n.ipynb --cron "0 2 * * *" --profile cpu-small', "not for jobs"),
        ('n.ipynb --cron "0 2 * * *" --with gone.csv', "There is no file 'gone.csv'"),
        ("n.ipynb", "--cron"),
        ("run nothing", "There is no schedule 'nothing'"),
        ("jobs ../audit", "There is no schedule '../audit'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(house: House, shell: InteractiveShell, line: str, message: str) -> None:
    notebook("n.ipynb", "trees = 1")
    with pytest.raises(UsageError) as caught:
        shell.run_line_magic("schedule", line)
    assert message in str(caught.value)
    assert house.schedules.list() == ()


def test_without_a_workbench_the_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THEMISTO_URL", raising=False)
    from themisto.errors import MissingSetting

    with pytest.raises(MissingSetting, match="THEMISTO_URL is not set"):
        Workbench(Settings(url=None)).schedules.list()


def test_schedules_are_paused_resumed_and_removed(house: House, shell: InteractiveShell) -> None:
    notebook("n.ipynb", "trees = 1")
    shell.run_line_magic("schedule", 'n.ipynb --cron "0 2 * * *"')
    assert "paused by scientist" in repr(shell.run_line_magic("schedule", "pause n"))
    assert "paused" not in repr(shell.run_line_magic("schedule", "resume n")).lower()
    shell.run_line_magic("schedule", "rm n")
    assert house.schedules.list() == ()
    events = httpx.get(f"{house.url}/api/v1/audit", headers={"Authorization": f"token {house.token}"}).json()
    actions = [e["action"] for e in events if e["action"].startswith("schedule.")]
    assert actions == ["schedule.create", "schedule.pause", "schedule.resume", "schedule.remove"]
