"""docs/names.md: its lines, typed by two people in turn, against a real control plane over HTTP."""

from __future__ import annotations

import re
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from IPython.core.error import UsageError
from pydantic import SecretStr
from tests.fakes.hub_identity import HubIdentity

from themisto.client import ControlPlane
from themisto.serving.cell_magic import CELL
from themisto.serving.magic import DeployMagics
from themisto.serving.service import Serving
from themisto.settings import Settings
from themisto.types import utcnow
from themisto_hub.control.app import create_app
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.context import Control
from themisto_hub.control.hub import HubClient
from themisto_hub.settings import Deployment, Keys

TEXT = (Path(__file__).parents[3] / "docs" / "names.md").read_text()
LINES = re.findall(r"^%deploy (.+)$", TEXT, re.MULTILINE)
INLINE = re.findall(r"`%deploy ([^`]+)`", TEXT)


class Plane:
    """The control plane, and two people's notebooks on it."""

    def __init__(self, folder: Path) -> None:
        self.hub = HubIdentity().start()
        for name, group in (("scientist", "data-science"), ("colleague", "fraud-team")):
            self.hub.add(name, [group], scopes=["custom:themisto:deploy"])
        self.hub.add("admin", ["platform-admins"], scopes=["custom:themisto:admin"])
        settings = Deployment(state=folder, allowed_groups=frozenset({"data-science", "fraud-team"}))
        settings.folder("control").mkdir(parents=True)
        self.days = 0
        self.control = Control(
            settings,
            Keys(operator=SecretStr("key")),
            clock=lambda: utcnow() + timedelta(days=self.days),
            hub=HubClient(self.hub.api_url, ""),
            targets=(),
        )
        self.control.serving.changes._subscribers.clear()  # there is no Envoy to write for
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/services/themisto"
        self._server = uvicorn.Server(uvicorn.Config(create_app(self.control, workers=()), log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        self._people: dict[str, DeployMagics] = {}

    def says(self, person: str, line: str):
        """What the line shows to that person."""
        if person not in self._people:
            settings = Settings(url=self.url, token=f"token-of-{person}", group=None, timeout_s=10)
            control = ControlPlane(settings)
            bench = type("Bench", (), {"serving": Serving(settings, control, None), "control": control})
            self._people[person] = DeployMagics(None, bench)
        return repr(self._people[person].deploy(line))

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self.hub.stop()


@pytest.fixture
def plane(tmp_path):
    plane = Plane(tmp_path / "state")
    yield plane
    plane.stop()


def test_the_lines_of_the_page_are_these():
    assert LINES == [
        "claim credit", "transfer credit --to fraud-team", "accept credit", "retire credit", "callers credit",
    ]  # fmt: skip
    assert {"transfer credit --withdraw", "free credit"} <= set(INLINE)


def test_a_name_goes_the_way_that_the_page_tells(plane):
    claim, transfer, accept, retire, callers = LINES
    assert "data-science" in plane.says("scientist", claim)
    refused = re.search(r"```\n(The endpoint .*?)\n```", TEXT, re.DOTALL)[1]
    with pytest.raises(UsageError) as error:
        plane.says("colleague", claim)
    assert str(error.value) == refused
    assert "fraud-team" in plane.says("scientist", transfer)
    assert "offered to" not in plane.says("scientist", "transfer credit --withdraw")
    plane.says("scientist", transfer)
    assert "fraud-team" in plane.says("colleague", accept)
    with pytest.raises(UsageError, match="no endpoint 'credit'"):
        plane.says("scientist", "status credit")
    assert plane.says("colleague", callers) == "nobody called in the last 30 days"
    assert "nothing answers" in plane.says("colleague", retire)
    with pytest.raises(UsageError, match="for 90 days"):
        plane.says("admin", "free credit")
    plane.days = 91
    plane.says("admin", "free credit")
    assert "data-science" in plane.says("scientist", claim)
    with plane.control.db.read() as session:
        actions = [row.action for row in session.query(AuditRow).filter_by(outcome="done").order_by(AuditRow.number)]
        assert plane.control.audit.verify(session).intact
    assert actions == [
        "endpoint.claim", "endpoint.offer", "endpoint.withdraw", "endpoint.offer", "endpoint.transfer", "callers.read",
        "endpoint.retire", "endpoint.free", "endpoint.claim",
    ]  # fmt: skip


def test_the_grace_period_is_the_settings():
    assert f"After {Deployment.model_fields['name_grace_days'].default} days" in TEXT


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("transfer credit", "--to"),
        ("transfer credit --to fraud-team --withdraw", "not allowed with"),
        ("transfer credit --to 'Fraud Team'", "group"),
        ("transfer credti --to fraud-team", "Did you mean credit"),
        ("transfer credit --to data-science", "already"),
        ("accept credit", "offered to nobody"),
        ("claim credit.v2", "version, not a name"),
        ("claim Credit", "no endpoint name"),
        ("claim 'a/../b'", "no endpoint name"),
        ("callers credti", "Did you mean credit"),
        ("callers credit --days 0", "days"),
        ("free credit", "may not run the platform"),
    ],
)
def test_mistakes_are_one_sentence(plane, line, says):
    plane.says("scientist", "claim credit")
    with pytest.raises(UsageError, match=says):
        plane.says("scientist", line)


def test_the_version_line_is_one_that_the_magic_reads():
    line, body = re.search(r"```python\n%%deploy (.+)\n(.+)\n```", TEXT).groups()
    args = CELL.parse_line(line)
    assert (args.endpoint, args.sample, args.new_version, body) == ("credit", "X_valid", True, "model")


def test_the_refusal_on_the_page_is_what_the_contract_says():
    from themisto.serving.contract import Contract, breaks
    from themisto.serving.models import Column, Signature

    now = Signature(inputs=(), outputs=(Column(name="score", dtype="FP32"),))
    new = Signature(inputs=(Column(name="region", dtype="BYTES"),), outputs=())
    said = "; ".join(breaks(Contract(signature=now), Contract(signature=new)))
    shown = " ".join(re.search(r"```\n(It would break .*?)```", TEXT, re.DOTALL)[1].split())
    assert shown.startswith(f"It would break those who call credit@3: {said}.")


def test_prometheus_reads_the_metrics_with_a_token_as_the_docs_configure(plane):
    url = f"{plane.url}/api/v1/metrics"
    answer = httpx.get(url, headers={"Authorization": "token token-of-admin"})
    assert answer.headers["content-type"].startswith("text/plain")
    assert "themisto_build_info" in answer.text
    assert "process_cpu_seconds_total" in answer.text
    assert httpx.get(url).status_code == 401
