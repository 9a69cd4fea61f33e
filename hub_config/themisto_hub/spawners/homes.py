"""Homes: what a person finds on her first start, and the scratch folder of a job."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Homes"]

_IPYTHON = """\
# Made by themisto on the first start; yours to change.
c = get_config()
c.InteractiveShellApp.extensions.append("themisto")
"""
_LAB = {
    ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings": (
        '{"fetchNews": "false", "checkForUpdates": false}\n'
    ),
}
_THROUGH = 0o711  # others may pass through, not look around


class Homes:
    """Folders of people and jobs, by number: a person's name is never a path.

    root: the hub's folder for them. notebooks: copied into a new home, or None.
    owned: whether each belongs to a uid of its own.
    """

    def __init__(self, root: Path, notebooks: Path | None, *, owned: bool) -> None:
        self._root = root
        self._notebooks = notebooks
        self._owned = owned

    @property
    def people(self) -> Path:
        """The folder with everybody's home: hidden from jobs."""
        return self._root / "home"

    def home(self, uid: int, name: str, email: str) -> Path:
        """The person's home; made and filled when it is not there."""
        home = self._open("home") / str(uid)
        if not home.exists():
            self._make(home, uid, _files(name, email), tour=True)
        return home

    def scratch(self, uid: int, server: str, name: str, email: str) -> Path:
        """An empty home for one job. Nothing of the person's is in it."""
        self.forget(uid, server)
        scratch = self._open("scratch") / f"{uid}-{server}"
        self._make(scratch, uid, _files(name, email), tour=False)
        return scratch

    def forget(self, uid: int, server: str) -> None:
        """Remove a job's scratch folder."""
        shutil.rmtree(self._root / "scratch" / f"{uid}-{server}", ignore_errors=True)
        (self._root / "passwd" / f"{uid}-{server}").unlink(missing_ok=True)

    def passwd(self, uid: int, server: str, name: str, home: Path) -> Path:
        """An /etc/passwd in which the uid has the person's name."""
        file = self._open("passwd") / f"{uid}-{server}"
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:32]
        file.write_text(Path("/etc/passwd").read_text() + f"{safe}:x:{uid}:{uid}::{home}:/bin/bash\n")
        file.chmod(0o644)
        return file

    def log(self, uid: int, server: str) -> Path:
        """Where the output of a server goes; for the hub's user only."""
        folder = self._root / "logs"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / f"{uid}-{server or 'default'}.log"

    def _open(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        folder.chmod(_THROUGH)
        return folder

    def _make(self, home: Path, uid: int, files: Mapping[str, str], *, tour: bool) -> None:
        """Build it aside, hand it over, move it into place.

        Once a folder is its owner's we never write below it as root: a link of hers could lead anywhere.
        """
        new = home.with_name(f".new-{home.name}")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        for relative, text in files.items():
            file = new / relative
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_text(text)
        notebooks = self._tour(new) if tour else None
        if self._owned:
            for path in [new, *new.rglob("*")]:
                os.chown(path, uid, uid)
        if notebooks is not None:
            self._commit(notebooks, uid, new)
        new.rename(home)

    def _tour(self, home: Path) -> Path | None:
        """Copies of the tour's notebooks, where there are any."""
        found = sorted(self._notebooks.glob("*.ipynb")) if self._notebooks else []
        if not found:
            return None
        folder = home / "notebooks"
        folder.mkdir()
        for notebook in found:
            shutil.copyfile(notebook, folder / notebook.name)
        (folder / ".gitignore").write_text(".ipynb_checkpoints/\n")
        return folder

    def _commit(self, folder: Path, uid: int, home: Path) -> None:
        """Under version control from the start, so that runs and releases can name a commit."""
        if shutil.which("git") is None:
            return
        who = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--"] if self._owned else []
        environment = {"HOME": str(home), "PATH": os.environ.get("PATH", os.defpath)}
        for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "The tour, as it came"]):
            subprocess.run(
                [*who, "git", *words], cwd=folder, env=environment, check=False, capture_output=True, timeout=30
            )


def _files(name: str, email: str) -> dict[str, str]:
    return {".ipython/profile_default/ipython_config.py": _IPYTHON, ".gitconfig": _git_identity(name, email), **_LAB}


def _git_identity(name: str, email: str) -> str:
    def quoted(text: str) -> str:
        return '"' + re.sub(r'[\x00-\x1f"\\]', "", text) + '"'

    return f"[user]\n\tname = {quoted(name)}\n\temail = {quoted(email)}\n[init]\n\tdefaultBranch = main\n"
