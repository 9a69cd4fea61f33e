"""Where a run was made: the notebook's git commit, the environment's lock digest, profile and version."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
from functools import cache
from pathlib import Path

from themisto import __version__
from themisto.tracking.models import Provenance

__all__ = ["as_tags", "lock_digest", "provenance"]

_GIT_TIMEOUT_S = 5.0


def provenance(folder: Path | None = None) -> Provenance:
    """Of the process, and of the working directory's git repository (None where there is none)."""
    commit, dirty = _git(folder or Path.cwd())
    return Provenance(
        git_commit=commit,
        git_dirty=dirty,
        lock_sha256=lock_digest(),
        profile=os.environ.get("THEMISTO_PROFILE") or None,
        image=os.environ.get("JUPYTER_IMAGE") or None,
        notebook=Path(os.environ.get("JPY_SESSION_NAME", "")).name or None,
        themisto=__version__,
    )


def as_tags(made: Provenance) -> dict[str, str]:
    """The facts that are known, as tags of a run; MLflow's own names where it has them."""
    tags = {
        "mlflow.source.git.commit": made.git_commit,
        "mlflow.source.name": made.notebook,
        "mlflow.source.type": "NOTEBOOK" if made.notebook else None,
        "themisto.git_dirty": None if made.git_dirty is None else str(made.git_dirty).lower(),
        "themisto.lock_sha256": made.lock_sha256,
        "themisto.profile": made.profile,
        "themisto.image": made.image,
        "themisto.version": made.themisto,
    }
    return {key: value for key, value in tags.items() if value is not None}


@cache
def lock_digest() -> str:
    """SHA-256 over the sorted `name==version` lines of every distribution installed here."""
    pins = {f"{d.metadata['Name'].lower()}=={d.version}" for d in importlib.metadata.distributions()}
    return hashlib.sha256("".join(f"{pin}\n" for pin in sorted(pins)).encode()).hexdigest()


def _git(folder: Path) -> tuple[str | None, bool | None]:
    """The commit that is checked out, and whether anything tracked differs from it."""
    commit = _git_says(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = _git_says(folder, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git_says(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
