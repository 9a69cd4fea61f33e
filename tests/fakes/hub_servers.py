"""A stand-in for the hub as the scheduler sees it: servers that start, run and vanish as a test says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes.hub_identity import HubIdentity

from themisto.errors import NotFound, ThemistoError
from themisto_hub.control.hub import HubClient

__all__ = ["HubServers", "JobHub"]


class HubServers:
    """The part of HubClient that the scheduler uses.

    asked: every server asked for, as (owner, name, options). refusal: raised instead of starting one.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.stopped: list[str] = []
        self.refusal: ThemistoError | None = None
        self.down: ThemistoError | None = None
        self._servers: dict[str, dict[str, dict[str, Any]]] = {}

    def start_server(self, user: str, name: str, options: Mapping[str, Any]) -> None:
        if self.down or self.refusal:
            raise self.down or self.refusal
        self.asked.append((user, name, dict(options)))
        self._servers.setdefault(user, {})[name] = {"name": name, "ready": True, "pending": None}

    def stop_server(self, user: str, name: str) -> None:
        if self.down:
            raise self.down
        self.stopped.append(name)
        self.vanish(user, name)

    def vanish(self, user: str, name: str) -> None:
        """The server is gone, killed or stopped."""
        self._servers.get(user, {}).pop(name, None)

    def user(self, name: str) -> dict[str, Any]:
        if self.down:
            raise self.down
        if name not in self._servers:
            raise NotFound(f"The hub says: no user {name}")
        return {"name": name, "servers": self._servers[name]}

    def close(self) -> None:
        """Nothing to close."""


class JobHub(HubClient):
    """Identities over real HTTP, and servers that are the real job process, as a spawner would start it."""

    def __init__(self, identity: HubIdentity, base_port: int, control_url: str, folder: Path) -> None:
        super().__init__(identity.api_url, "control")
        self._identity = identity
        self._ports = iter(range(base_port, base_port + 10))
        self._control_url = control_url
        self._folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.asked: list[dict[str, Any]] = []
        self.groups = ["data-science"]

    def start_server(self, user: str, name: str, options: Mapping[str, Any]) -> None:
        self.asked.append({"user": user, "name": name, **options})
        port, token = next(self._ports), f"token-of-{name}"
        scopes = ["custom:themisto:schedule", f"access:servers!server={user}/{name}"]
        self._identity.add(user, self.groups, scopes=scopes, token=token)
        home = self._folder / name
        home.mkdir()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/user/{user}/{name}/",
            "JUPYTERHUB_SERVICE_PREFIX": f"/user/{user}/{name}/",
            "JUPYTERHUB_API_TOKEN": token,
            "JUPYTERHUB_API_URL": self._identity.api_url,
            "JUPYTERHUB_SERVER_NAME": name,
            "THEMISTO_URL": self._control_url,
            "THEMISTO_GROUP": options["user_options"]["group"],
        }
        with (home / "log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "themisto.schedules.job"],
                env=env,
                cwd=home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop_server(self, user: str, name: str) -> None:
        process = self.processes.get(name)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        self._identity.remove(f"token-of-{name}")

    def kill(self, name: str) -> None:
        """End the server as the kernel's memory limit would."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait(20)

    def user(self, name: str) -> dict[str, Any]:
        running = {n: {"ready": True} for n, p in self.processes.items() if p.poll() is None}
        return {"name": name, "servers": running}

    def close(self) -> None:
        """A control plane that ends does not take the hub with it."""

    def end(self) -> None:
        """End the hub with its servers."""
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)
        super().close()
