"""Environments: the packages that models are pinned to, packed once each by the pool and kept by their digest.

The control plane says which are wanted by files (`require`); `Packer` makes them with uv, of wheels alone:
nothing of a package runs while it is packed. It does so under a uid of its own, and models only read them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from themisto.errors import Failed, Invalid, ThemistoError, Unavailable
from themisto_hub.model_server.server import environment_folder
from themisto_hub.settings import Deployment

__all__ = ["Packer", "digest", "folder", "mark_of", "ready_of", "require", "wish_of", "wishes"]

_PYTHON = re.compile(r"^# python (3\.\d{1,2})\Z")
_PIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*\Z")
_MAX_PINS = 300
_MAX_S = 900.0
_PACKER_UID = 694_999
_READY, _FAILED, _UNUSED = "ready", ".failed", ".unused"
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_log = logging.getLogger(__name__)


def digest(requirements: bytes) -> str:
    """What an environment is kept by."""
    return hashlib.sha256(requirements).hexdigest()


def folder(settings: Deployment) -> Path:
    """Where the packed environments are, each by its digest."""
    return settings.folder("pool-state") / "environments"


# The control plane's side.


def require(settings: Deployment, requirements: bytes) -> None:
    """Have the environment packed. Raises Unavailable while it is not there yet, Failed where it cannot be."""
    _check(requirements)
    name = digest(requirements)
    place = folder(settings) / name
    wish, failure = wishes(settings) / f"{name}.txt", place.with_name(f"{name}{_FAILED}")
    if wish.exists() and ready_of(place).exists() and not mark_of(place).exists():
        return
    if wish.exists() and failure.exists() and failure.stat().st_mtime_ns >= wish.stat().st_mtime_ns:
        cause = str(json.loads(failure.read_text()))
        wish.unlink(missing_ok=True)  # the next deploy is a new try
        raise Failed(f"The model's packages could not be packed: {cause}", "Deploy with packages that can be had.")
    wish_of(settings, name, requirements)
    raise Unavailable("The model's packages are being packed.", "It goes on by itself.")


def wish_of(settings: Deployment, name: str, requirements: bytes) -> Path:
    """The file that has an environment packed, and kept; written unless it is there."""
    wish = wishes(settings) / f"{name}.txt"
    if not wish.exists():
        wish.parent.mkdir(parents=True, exist_ok=True)
        draft = wish.with_suffix(".new")
        draft.write_bytes(requirements)
        draft.replace(wish)
    return wish


def _check(requirements: bytes) -> list[str]:
    """The Python version, then the pins. Raises Invalid for anything else: these lines come from an author."""
    lines = requirements.decode(errors="replace").split("\n")
    python = _PYTHON.match(lines[0])
    pins = [line for line in lines[1:] if line]
    wrong = next((line for line in pins if not _PIN.match(line)), None)
    if python is None or wrong is not None or not 0 < len(pins) <= _MAX_PINS:
        raise Invalid(
            f"requirements.txt is no list of pins: {(wrong or lines[0])[:100]!r}.", "Deploy it again with --native."
        )
    return [python[1], *pins]


def ready_of(place: Path) -> Path:
    """The file that a packed environment has once it is whole."""
    return place / _READY


def mark_of(place: Path) -> Path:
    """The file that says since when nobody has wished for a packed environment."""
    return place.with_name(f"{place.name}{_UNUSED}")


def wishes(settings: Deployment) -> Path:
    """The control plane's folder of them, each by its environment's digest."""
    return settings.folder("pool") / "environments"


# The pool's side.


class Packer:
    """Packs what is wanted, one after the other; `step` never waits for it."""

    def __init__(self, settings: Deployment, *, apart: bool) -> None:
        """apart: under a uid of its own, as root can."""
        self._settings = settings
        self._apart = apart
        self._process: subprocess.Popen[str] | None = None
        self._name = ""
        self._left_s = 0.0
        base = folder(settings)
        base.mkdir(parents=True, exist_ok=True)
        base.chmod(0o755)
        self._give(base / ".cache")

    def step(self, passed_s: float) -> None:
        """Look after the one that is being packed, or begin with the next. `passed_s`: since the last step."""
        if self._process is None:
            self._begin()
            return
        self._left_s -= passed_s
        if self._process.poll() is None and self._left_s > 0:
            return
        if self._process.poll() is None:
            self._process.kill()
        _, complained = self._process.communicate()
        self._end(self._process.returncode, complained if self._left_s > 0 else "it took too long")

    def stop(self) -> None:
        """End what is being packed; it is begun anew after the next start."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _begin(self) -> None:
        for wish in sorted(wishes(self._settings).glob("*.txt"), key=lambda file: file.stat().st_mtime):
            place = folder(self._settings) / wish.stem
            failure = place.with_name(f"{wish.stem}{_FAILED}")
            if ready_of(place).exists():
                continue
            if failure.exists() and failure.stat().st_mtime_ns >= wish.stat().st_mtime_ns:
                continue
            try:
                data = wish.read_bytes()
                if digest(data) != wish.stem:
                    continue
                self._pack(wish.stem, _check(data))
            except (OSError, ThemistoError, subprocess.SubprocessError) as error:
                self._fail(wish.stem, str(error))
            return

    def _pack(self, name: str, told: list[str]) -> None:
        python, *pins = told
        place = folder(self._settings) / name
        shutil.rmtree(place, ignore_errors=True)
        self._give(place)
        _log.info("packing %d packages for %s", len(pins), name[:12])
        command = [sys.executable, "-I", str(Path(__file__).parent / "packing.py"), _uv(), _python(python), str(place)]
        become = ["--reuid", str(_PACKER_UID), "--regid", str(_PACKER_UID), "--clear-groups", "--no-new-privs", "--"]
        self._process = subprocess.Popen(
            ["setpriv", *become, *command] if self._apart else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            cwd=folder(self._settings),
        )
        self._name, self._left_s = name, _MAX_S
        assert self._process.stdin is not None
        self._process.stdin.write("\n".join(pins))
        self._process.stdin.close()
        self._process.stdin = None

    def _give(self, place: Path) -> None:
        """A folder of the packer's in one that is not: what root writes beside it is out of its reach."""
        place.mkdir(exist_ok=True)
        if self._apart:
            os.chown(place, _PACKER_UID, _PACKER_UID)

    def _environment(self) -> dict[str, str]:
        """uv's own settings (an index, a cache) count; nothing of ours is in it."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        uv = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
        own = str(folder(self._settings) / ".cache")
        home = own if self._apart else os.environ.get("HOME", own)
        cache = {"UV_CACHE_DIR": own} if self._apart else {}
        return {**kept, **cache, **uv, "HOME": home, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}

    def _end(self, code: int, complained: str) -> None:
        name, self._process = self._name, None
        if code == 0 and ready_of(folder(self._settings) / name).exists():
            _log.info("packed %s", name[:12])
            return
        words = " ".join(complained.split())[-600:] or f"uv ended with {code}"
        self._fail(name, words)

    def _fail(self, name: str, words: str) -> None:
        _log.error("packing %s failed: %s", name[:12], words)
        shutil.rmtree(folder(self._settings) / name, ignore_errors=True)
        (folder(self._settings) / f"{name}{_FAILED}").write_text(json.dumps(words))


def _uv() -> str:
    """The installer beside the model server's environment, else the one on the path."""
    beside = environment_folder().parent / "uv" / "bin" / "uv"
    return str(beside) if beside.exists() else shutil.which("uv") or "uv"


def _python(version: str) -> str:
    """The model server's own interpreter where it is that version: all members can read it."""
    ours = sorted((environment_folder() / "lib").glob("python3.*"))
    same = ours and ours[0].name == f"python{version}"
    return str(environment_folder() / "bin" / "python") if same else version
