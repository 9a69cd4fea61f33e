"""One member of the pool: a Triton for one group's code and the relay through which it is reached.

`Member` is the pool's handle; `python -m themisto_hub.model_server.member` is what it starts: as root
inside new network, process, mount and IPC namespaces. Its standard input carries the layout (with
the key, which so is in no environment) and, by its end, the word to stop: a pool that is killed
leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from themisto.types import Model
from themisto_hub.gateway.envoy import binary
from themisto_hub.gateway.messages import Message, typed
from themisto_hub.model_server.server import Server, environment_folder

__all__ = ["Layout", "Member", "walled"]

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "THEMISTO_WORKBENCH", "THEMISTO_TRITON", "THEMISTO_ISOLATION")
_STOP_S = 8.0
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41
_PR_SET_DUMPABLE = 4


class Layout(Model):
    """Where a member lives and who it is."""

    name: str
    folder: Path
    key: str
    uid: int
    environments: Path
    """Where packed environments are; its own to read only."""
    sockets_gid: int
    """Group whose members may open the sockets: the gateway's."""


class Member:
    """A running member; made running."""

    def __init__(self, layout: Layout) -> None:
        _prepare(layout)
        walls = ["unshare", "--net", "--ipc", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]
        command = [sys.executable, "-m", "themisto_hub.model_server.member"]
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [*walls, "--", *command] if walled() else command,
            stdin=subprocess.PIPE,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            cwd=layout.folder,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(layout.model_dump_json().encode() + b"\n")
        self._process.stdin.flush()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def lived_s(self) -> float:
        return time.monotonic() - self._began

    def close(self) -> None:
        """Tell it to stop, without waiting."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Stop it; one that does not is killed, with all it has started."""
        self.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_S)


def walled() -> bool:
    """Whether a member has walls: started by root, and the supervisor has not found that it cannot isolate."""
    return os.geteuid() == 0 and os.environ.get("THEMISTO_ISOLATION", "uid") == "uid"


def main() -> int:
    """Run Triton and relay until standard input ends or one of them does."""
    layout = Layout.model_validate(json.loads(sys.stdin.buffer.readline()))
    apart = walled()
    if apart:
        _loopback_up()
        _own_temporary_files(layout)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # the layout in our memory is nobody else's
    os.umask(0o077)
    ports = (8000, 8001, 8002) if apart else _free_ports(3)
    server = Server(
        name=layout.name,
        folder=layout.folder / "triton",
        http_port=ports[0],
        grpc_port=ports[1],
        metrics_port=ports[2],
        key=layout.key,
        python=environment_folder(),
        environments=layout.environments,
    )
    server.prepare()
    relay = layout.folder / "relay.json"
    relay.write_text(json.dumps(_relay(layout, ports[0], ports[1])))
    if apart:
        _give(layout, server.folder, relay)
    envoy = [str(binary()), "-c", str(relay), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    become = _become(layout) if apart else []
    children = [
        subprocess.Popen(
            [*become, *server.command], env=server.environment, cwd=server.folder, stdin=subprocess.DEVNULL
        ),
        subprocess.Popen([*become, *envoy], env=server.environment, cwd=layout.folder, stdin=subprocess.DEVNULL),
    ]
    try:
        while all(child.poll() is None for child in children):
            readable, _, _ = select.select([sys.stdin], [], [], 0.2)
            if readable and not os.read(sys.stdin.fileno(), 1):
                return 0
        return 1
    finally:
        _end(children)


def _prepare(layout: Layout) -> None:
    """A folder made anew, so that no link that earlier code left there leads root anywhere.

    It is passable for the sockets' group, which new sockets inherit.
    """
    if layout.folder.exists():
        shutil.rmtree(layout.folder)
    layout.folder.mkdir()
    if walled():
        os.chown(layout.folder, layout.uid, layout.sockets_gid)
    layout.folder.chmod(0o2750)
    (layout.folder / "triton").mkdir()


def _give(layout: Layout, triton: Path, relay: Path) -> None:
    os.chown(relay, layout.uid, layout.uid)
    for folder, folders, files in os.walk(triton):
        for name in [".", *folders, *files]:
            os.chown(Path(folder) / name, layout.uid, layout.uid, follow_symlinks=False)


def _become(layout: Layout) -> list[str]:
    setpriv = shutil.which("setpriv") or "setpriv"
    who = ["--reuid", str(layout.uid), "--regid", str(layout.uid), "--clear-groups"]
    return [setpriv, *who, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]


def _loopback_up() -> None:
    """A new network namespace has a loopback that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))


def _own_temporary_files(layout: Layout) -> None:
    """Triton's requests pass through /dev/shm and its models through /tmp: no one else's are to be seen here."""
    needed = [layout.folder, layout.environments, environment_folder(), Path(sys.prefix), Path(__file__)]
    for place in (Path("/dev/shm"), Path("/tmp")):  # noqa: S108 - covered, not used
        if not any(path.is_relative_to(place) for path in needed):
            options = "mode=1777,size=1g,nosuid,nodev"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True, timeout=10)


def _free_ports(count: int) -> tuple[int, ...]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(probe.getsockname()[1] for probe in probes)
    finally:
        for probe in probes:
            probe.close()


def _relay(layout: Layout, http: int, grpc: int) -> Message:
    """A stock Envoy that hands bytes from socket to port: what is outside a network namespace opens the socket."""

    def listener(name: str) -> Message:
        proxy = typed(
            "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=name, cluster=name, idle_timeout="0s"
        )
        return {
            "name": name,
            "address": {"pipe": {"path": f"{name}.sock", "mode": 0o660}},
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}],
        }

    def cluster(name: str, port: int) -> Message:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "0.5s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }

    names: dict[str, int] = {"http": http, "grpc": grpc}
    resources: dict[str, Any] = {
        "listeners": [listener(name) for name in names],
        "clusters": [cluster(name, port) for name, port in names.items()],
    }
    return {"node": {"id": layout.name, "cluster": "pool"}, "static_resources": resources}


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S / 2
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
