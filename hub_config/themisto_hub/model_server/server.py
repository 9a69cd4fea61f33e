"""One tritonserver: its environment, its flags, its folder. Loopback only, models only by the guarded load API."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from themisto.errors import Failed, NotFound
from themisto_hub.model_server.infer_key import INFER_HEADER
from themisto_hub.model_server.repository import TURN

__all__ = ["KEY_HEADER", "Server", "environment_folder", "trace_flags"]

KEY_HEADER = "themisto-model-key"
"""Header that carries the load API's key."""

_SHM = Path("/dev/shm")  # noqa: S108 - where Triton's Python backend puts its shared memory, by its own choice
_EXIT_TIMEOUT_S = 3  # it waits that long for connections that clients merely keep open
_CACHE_BYTES = 64 * 2**20
_NEVER = 2**31 - 1
"""Every so many-th request is traced that brings no trace: none. Zero is refused."""
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "THEMISTO_WORKBENCH")


def environment_folder() -> Path:
    """The model server's virtual environment: THEMISTO_TRITON, else `.venvs/triton` below the current folder."""
    folder = Path(os.environ.get("THEMISTO_TRITON") or ".venvs/triton").absolute()
    if not (folder / "bin" / "python").exists():
        raise NotFound(f"The model server is not installed in {folder}.", "Run: make setup.")
    return folder


def trace_flags(url: str | None, service: str) -> list[str]:
    """Triton's spans, OTLP over HTTP to `url`, of the requests that the gateway says are recorded and of no others.

    Nothing but times and names: tensors are not looked at.
    """
    if url is None:
        return []
    settings = (
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        f"rate={_NEVER}",
        f"opentelemetry,url={url}",
        f"opentelemetry,resource=service.name={service}",
    )
    return [f"--trace-config={one}" for one in settings]


@dataclass(frozen=True)
class Server:
    """A tritonserver that keeps its staged backends and an empty repository below `folder`.

    `name` marks its shared memory, so that what a killed one leaves behind is found again.
    """

    name: str
    folder: Path
    http_port: int
    grpc_port: int
    metrics_port: int
    key: str = field(repr=False)
    python: Path
    """The model server's virtual environment."""
    environments: Path | None = None
    """Where packed environments are, for functions that bring requirements; None: none may."""
    infer_key: str = field(default="", repr=False)
    """What inference, metadata, configuration and statistics ask for; empty: nothing, whoever reaches it may ask."""
    traces_url: str | None = None
    """Where its spans are posted (OTLP); None: it makes none."""

    def prepare(self) -> None:
        """Stage the backends, drop what a killed predecessor left in shared memory."""
        self.clean_shared_memory()
        backends = self.folder / "backends"
        if backends.exists():
            shutil.rmtree(backends)
        triton = self._site / "pytriton" / "tritonserver"
        shutil.copytree(triton / "backends" / "python", backends / "python")
        stub = backends / "python" / "triton_python_backend_stub"
        shutil.copy(triton / "python_backend_stubs" / self._version / stub.name, stub)
        stub.chmod(0o755)
        ours = Path(__file__).parent / "triton"
        (backends / "onnxruntime").mkdir()
        shutil.copy(ours / "onnxruntime.py", backends / "onnxruntime" / "model.py")
        (self.folder / "repository").mkdir(exist_ok=True)

    def clean_shared_memory(self) -> None:
        """Remove this server's own regions of /dev/shm: a killed Triton leaks them."""
        for region in _SHM.glob(f"{self._shm_prefix}*"):
            with suppress(PermissionError, FileNotFoundError):
                region.unlink()

    @property
    def command(self) -> list[str]:
        """The tritonserver and its flags."""
        guarded = [f"model-repository,shared-memory,trace,logging:{KEY_HEADER}={self.key}"]
        if self.infer_key:
            guarded.append(f"inference,metadata,model-config,statistics:{INFER_HEADER}={self.infer_key}")
        return [
            str(self._site / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={self.folder / 'repository'}",
            f"--backend-directory={self.folder / 'backends'}",
            "--model-control-mode=explicit",
            "--disable-auto-complete-config",
            "--strict-readiness=false",
            "--exit-on-error=false",
            f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
            "--http-address=127.0.0.1",
            f"--http-port={self.http_port}",
            *(f"--http-restricted-api={one}" for one in guarded),
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.grpc_port}",
            *(f"--grpc-restricted-protocol={one}" for one in guarded),
            "--metrics-address=127.0.0.1",
            f"--metrics-port={self.metrics_port}",
            "--allow-gpu-metrics=false",
            f"--cache-directory={self._site / 'pytriton' / 'tritonserver' / 'caches'}",
            f"--cache-config=local,size={_CACHE_BYTES}",
            # Models that ask for a priority share the server's turns; the others run unlimited.
            "--rate-limit=execution_count",
            f"--rate-limit-resource={TURN}:{os.cpu_count() or 1}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            f"--backend-config=onnxruntime,shm-region-prefix-name={self._shm_prefix}",
            "--log-info=false",
            *trace_flags(self.traces_url, self.folder.name),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """No key, no token: what runs in here is the model's business only."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        libraries = [self._site / "nvidia_pytriton.libs", self._libpython]
        return kept | {
            "PATH": os.pathsep.join([str(self.python / "bin"), kept.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            **({"THEMISTO_ENVIRONMENTS": str(self.environments)} if self.environments else {}),
        }

    def execute(self) -> None:
        """Become the tritonserver."""
        command, environment = self.command, self.environment
        os.chdir(self.folder)
        os.umask(0o077)  # its shared memory holds requests
        os.execve(command[0], command, environment)  # noqa: S606 - this process is Triton from here on

    @property
    def _shm_prefix(self) -> str:
        return f"triton_{os.geteuid()}_{self.name}_"

    @property
    def _version(self) -> str:
        """Of the environment's Python, as its folder says: `3.11`."""
        return self._site.parent.name.removeprefix("python")

    @property
    def _site(self) -> Path:
        found = sorted((self.python / "lib").glob("python3.*/site-packages"))
        if not found:
            raise NotFound(f"{self.python} is no Python environment.", "Run: make setup.")
        return found[0]

    @property
    def _libpython(self) -> Path:
        """Folder of the shared libpython that belongs to the environment's interpreter."""
        asked = "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('MULTIARCH') or '')"
        done = subprocess.run(
            [str(self.python / "bin" / "python"), "-c", asked], capture_output=True, text=True, check=True, timeout=30
        )
        directory, _, multiarch = done.stdout.strip().partition(" ")
        name = f"libpython{self._version}.so.1.0"
        for folder in (Path(directory), Path(directory) / multiarch):
            if (folder / name).exists():
                return folder
        raise Failed(
            f"Triton needs {name}, which is not in {directory}.",
            f"Install it: apt-get install libpython{self._version} ({sysconfig.get_platform()}).",
        )
