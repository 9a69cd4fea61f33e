"""Servers as processes of this machine: each person's and each person's jobs under a uid of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import psutil
from jupyterhub.spawner import LocalProcessSpawner
from traitlets import Integer, List, Unicode, default

from themisto.errors import ThemistoError
from themisto.profiles import Profile
from themisto_hub.refusal import Refusal
from themisto_hub.spawners.accounts import Accounts
from themisto_hub.spawners.cgroup import Cgroup
from themisto_hub.spawners.choice import JOB_COMMAND, KubeForm, ProfileChoice
from themisto_hub.spawners.enclosure import Enclosure
from themisto_hub.spawners.gpu import Device, Leases, inventory
from themisto_hub.spawners.homes import Homes

__all__ = ["LocalSpawner"]

_MARK = "THEMISTO_SERVER"
"""Environment variable of a server and all it starts: how what a crash leaves behind is found."""


class LocalSpawner(ProfileChoice, KubeForm, LocalProcessSpawner):  # type: ignore[misc]  # JupyterHub is not typed
    """`isolated`: own uid, mounts, /proc and control group (needs root). Else: plain processes, limits advisory."""

    leases: ClassVar[Leases] = Leases(inventory)

    data_dir = Unicode("homes", config=True, help="folder of homes, scratch folders and the book of uids")
    notebooks_dir = Unicode("", config=True, help="notebooks that a new home starts with; empty: none")
    code_dirs = List(Unicode(), config=True, help="folders of code that a private /tmp must not cover")
    job_command = List(Unicode(), [sys.executable, *JOB_COMMAND], config=True, help="what the server of a job runs")
    cgroup_parent = Unicode("themisto", config=True, help="control group above those of the servers")
    pids_limit = Integer(1024, config=True, help="processes and threads of one server")

    cmd: Any
    _oom_kills = 0
    _email = ""
    _starting = False

    @default("env_keep")
    def _env_keep(self) -> list[str]:
        # The last is the supervisor's mark: it ends what carries it when the workbench stops.
        return ["PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "THEMISTO_WORKBENCH"]

    @default("cmd")
    def _cmd(self) -> list[str]:
        return [sys.executable, "-m", "jupyterhub.singleuser"]

    @default("auth_state_hook")
    def _auth_state_hook(self) -> Any:
        def remember(spawner: LocalSpawner, auth_state: dict[str, Any] | None) -> None:
            user: dict[str, Any] = (auth_state or {}).get("oauth_user") or {}
            spawner._email = str(user.get("email") or "")

        return remember

    def overrides(self, profile: Profile) -> dict[str, Any]:
        return {"mem_limit": profile.memory_bytes, "cpu_limit": profile.cpu}

    # Who and where.

    @property
    def uid(self) -> int:
        return Accounts(self._data).uid(self.user.name, self.name)

    @property
    def _data(self) -> Path:
        folder = Path(self.data_dir).absolute()
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        return folder

    @property
    def _homes(self) -> Homes:
        notebooks = Path(self.notebooks_dir) if self.notebooks_dir else None
        return Homes(self._data, notebooks, owned=self.isolated)

    @property
    def _holder(self) -> str:
        return f"{self.user.id}-{self.name}"

    @cached_property
    def _cgroup(self) -> Cgroup:
        return Cgroup(self.cgroup_parent, f"{self.user.id}-{self.name or 'default'}")

    @property
    def _mark(self) -> str:
        return f"{self._data}:{self._holder}"

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        env |= {
            "HOME": str(self._home),
            "USER": self.user.name,
            "LOGNAME": self.user.name,
            "SHELL": "/bin/bash",
            "THEMISTO_GROUP": self.group,
            "CUDA_VISIBLE_DEVICES": ",".join(self.leases.held(self._holder)),
            _MARK: self._mark,
        }
        if self.isolated:
            env |= {"TMPDIR": "/tmp", "JUPYTER_RUNTIME_DIR": "/tmp/jupyter"}  # noqa: S108 - private to the server
        return env

    def get_args(self) -> list[str]:
        if self.is_job:
            return []
        args: list[str] = super().get_args()
        if self.isolated:
            # Any local uid may connect to loopback ports: kernels talk over sockets in the private /tmp.
            args.append("--KernelManager.transport=ipc")
        elif os.geteuid() == 0:
            args.append("--allow-root")
        return [*args, f"--ServerApp.root_dir={self._home}"]

    def make_preexec_fn(self, name: str) -> None:
        """Nothing of ours runs between fork and exec; the enclosure's shell does it."""
        del name

    # Starting and ending.

    async def start(self) -> tuple[str, int]:
        profile = self.profile
        assert profile is not None, "apply_user_options runs first"
        self._starting = True
        real: list[str] = self.cmd
        try:
            await self._clean_up()
            self.mem_limit, self.cpu_limit = profile.memory_bytes, profile.cpu
            devices = self._lease(profile)
            self._home = await asyncio.to_thread(self._make_home)
            self.cmd = command = list(self.job_command if self.is_job else real)
            if self.isolated:
                self.cmd = await asyncio.to_thread(self._enclose, command, devices)
            with self._homes.log(self.uid, self.name).open("wb") as log:
                self.popen_kwargs = {"cwd": self._home, "stdout": log, "stderr": log}
                address: tuple[str, int] = await super().start()
            await self._until_it_listens(*address)
            return address
        except BaseException:
            await self._clean_up()
            raise
        finally:
            self.cmd = real
            self._starting = False

    def _lease(self, profile: Profile) -> list[Device]:
        if profile.gpu is None:
            return []
        try:
            return self.leases.take(self._holder, profile.gpu)
        except ThemistoError as error:
            raise Refusal(503 if error.slug == "conflict" else 403, str(error)) from None

    def _make_home(self) -> Path:
        email = self._email or f"{self.user.name}@localhost"
        if self.is_job:
            return self._homes.scratch(self.uid, self.name, self.user.name, email)
        return self._homes.home(self.uid, self.user.name, email)

    def _enclose(self, command: list[str], devices: list[Device]) -> list[str]:
        assert self.profile is not None
        try:
            self._cgroup.create(memory_bytes=self.profile.memory_bytes, cpu=self.profile.cpu, pids=self.pids_limit)
        except OSError as error:
            raise Refusal(500, f"This machine lets us set no limits ({error}). Ask a platform admin.") from error
        self._oom_kills = self._cgroup.oom_kills
        mine = {f"nvidia{device.minor}" for device in devices}
        return Enclosure(
            uid=self.uid,
            home=self._home,
            passwd=self._homes.passwd(self.uid, self.name, self.user.name, self._home),
            groups=self._cgroup.procs_files,
            code=map(Path, self.code_dirs),
            hidden=[self._homes.people] if self.is_job and self._homes.people.is_dir() else [],
            masked=[node for node in Path("/dev").glob("nvidia[0-9]*") if node.name not in mine],
        ).wrap([*command])

    async def _until_it_listens(self, host: str, port: int) -> None:
        """A server that ends at once is told at once, with the last line of its log; the hub would wait a minute."""
        while await super().poll() is None:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.1)  # the hub's start_timeout ends this
                continue
            writer.close()
            return
        lines = self._homes.log(self.uid, self.name).read_text(errors="replace").strip().splitlines()
        self.log.error("%s ended at once: %s", self._log_name, "\n".join(lines[-20:]))
        raise Refusal(500, f"The server ended at once: {lines[-1][:300] if lines else 'it said nothing'}")

    async def poll(self) -> int | None:
        if self.isolated and (kills := self._cgroup.oom_kills) > self._oom_kills:
            self._oom_kills = kills
            self.log.warning("%s went over its memory limit; %d of its processes were ended", self._log_name, kills)
        status: int | None = await super().poll()
        if status is not None and not self._starting:
            await self._clean_up()
        return status

    async def stop(self, now: bool = False) -> None:
        await super().stop(now)
        await self._clean_up()

    async def _clean_up(self) -> None:
        """Leave nothing of the server: processes, control group, GPU lease, scratch folder."""
        if self.isolated:
            await self._cgroup.destroy()
        else:
            await asyncio.to_thread(_end_marked, self._mark)
        self.leases.free(self._holder)
        if self.is_job:
            await asyncio.to_thread(self._homes.forget, self.uid, self.name)

    # Across a restart of the hub.

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        return state | {"gpus": self.leases.held(self._holder)}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if state.get("pid"):
            self.leases.keep(self._holder, state.get("gpus", []))


def _end_marked(mark: str) -> None:
    """Kill what a crashed server left behind (kernels have sessions of their own)."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue
