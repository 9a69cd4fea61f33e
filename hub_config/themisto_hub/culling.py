"""Culling: idle servers end by themselves; one with a busy kernel never does.

The hub's idle culler goes by the activity that servers report, and Jupyter Server reports none for
a cell that computes for hours without a word. `BusyKernelManager` counts computing as activity; it
needs Jupyter Server only, so that images without the hub's parts can name it.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import PeriodicCallback
from traitlets import Float

__all__ = ["SCOPES", "BusyKernelManager", "culler_service"]

SCOPES = ("list:users", "read:users:activity", "read:servers", "delete:servers")
"""What the culler may do at the hub."""


class BusyKernelManager(AsyncMappingKernelManager):
    """Kernel manager for which a busy kernel is active at every moment."""

    busy_interval_s = Float(30.0, config=True, help="how often busy kernels are looked for, seconds")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._watch = PeriodicCallback(self._note_busy, self.busy_interval_s * 1000)
        self._watch.start()

    def _note_busy(self) -> None:
        for kernel_id in self.list_kernel_ids():
            kernel: Any = self.get_kernel(kernel_id)
            if getattr(kernel, "execution_state", "") == "busy":
                kernel.last_activity = self.last_kernel_activity = datetime.now(UTC)


def culler_service(token: str, *, idle_s: int, every_s: int, run_as: int | None) -> dict[str, Any]:
    """jupyterhub-idle-culler as a service that the hub keeps running and that ends with it.

    run_as: its uid, where the hub runs as root.
    """
    who = ["setpriv", "--pdeathsig", "TERM", "--no-new-privs"]
    if run_as is not None:
        who += [
            "--reuid",
            str(run_as),
            "--regid",
            str(run_as),
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ]
    command = [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={idle_s}", f"--cull-every={every_s}"]
    mark = {name: os.environ[name] for name in ("THEMISTO_WORKBENCH",) if name in os.environ}
    return {
        "name": "idle-culler",
        "command": [*who, "--", *command],
        "api_token": token,
        "cwd": "/",
        "environment": mark,
    }
