"""A mount namespace in which every uid can reach the interpreter and the code, and nothing more than before.

As root, services and people run under uids of their own; yet interpreter, environment and checkout
may lie below a closed folder (a 0700 home, a temporary folder). There, and only in this namespace, a
closed folder is covered by an empty one that shows just what is needed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["can_isolate", "enter", "inside", "open_paths"]

_MARK = "THEMISTO_NAMESPACE"
_NOBODY = 689_999


def inside() -> bool:
    """True in a process that `enter` started."""
    return os.environ.get(_MARK) == "1"


def enter(argv: list[str]) -> None:
    """Replace this process by the same command in a private mount namespace. Needs root."""
    os.environ[_MARK] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "--", *argv])  # noqa: S606 - our own words


def can_isolate() -> str:
    """Empty if people can be kept apart here, else the reason why not."""
    if os.geteuid() != 0:
        return "not started by root"
    for tool in ("unshare", "setpriv", "mount"):
        if shutil.which(tool) is None:
            return f"the command {tool} is missing (util-linux)"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "the kernel allows no mount namespace"
    if not any(os.access(Path("/sys/fs/cgroup") / name, os.W_OK) for name in ("memory", "cgroup.subtree_control")):
        return "control groups cannot be written"
    return ""


def open_paths(paths: Iterable[Path]) -> str:
    """Make `paths` reachable for every uid; returns why it could not be done, or an empty string."""
    by_parent: dict[Path, set[Path]] = {}
    for path in {p.resolve() for p in paths} | {p.absolute() for p in paths}:
        closed = next((d for d in reversed(path.parents) if not _passable(d)), None)
        if closed is not None:
            by_parent.setdefault(closed, set()).add(path)
    for parent, kept in by_parent.items():
        _cover(parent, _outermost(kept))
    return _try_as_nobody()


def _passable(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_IXOTH)


def _outermost(paths: set[Path]) -> list[Path]:
    return [p for p in sorted(paths) if not any(other in p.parents for other in paths)]


def _cover(parent: Path, kept: list[Path]) -> None:
    hold = Path(tempfile.mkdtemp(prefix="themisto-", dir="/run"))
    _mount("-t", "tmpfs", "-o", "mode=0700,size=1m", "tmpfs", str(hold))
    places = []
    for number, path in enumerate(kept):
        place = hold / str(number)
        place.mkdir()
        _mount("--rbind", str(path), str(place))
        places.append((place, path))
    _mount("-t", "tmpfs", "-o", "mode=0755,size=1m", "tmpfs", str(parent))
    for place, path in places:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        _mount("--move", str(place), str(path))
    subprocess.run(["umount", "--lazy", str(hold)], check=False)
    hold.rmdir()


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def _try_as_nobody() -> str:
    """Start our interpreter under a uid that owns nothing: the only proof that others can."""
    command = ["setpriv", "--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups", "--"]
    done = subprocess.run(
        [*command, sys.executable, "-c", "import themisto_hub"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=60,
    )
    if done.returncode == 0:
        return ""
    return f"other users cannot run {sys.executable}: {done.stderr.strip().splitlines()[-1:] or 'no reason given'}"
