"""The build hook for the Lab extension's front end: put into a wheel when built, built when it can be.

An editable install needs neither Node nor a built front end. A wheel without the panel would be a
quiet loss, so building one fails in a sentence when the front end can neither be found nor built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILT = "lab_extension/themisto_lab/labextension"
_SHARED = {
    _BUILT: "share/jupyter/labextensions/themisto-lab",
    "lab_extension/install.json": "share/jupyter/labextensions/themisto-lab/install.json",
    "lab_extension/jupyter_server_config.json": "etc/jupyter/jupyter_server_config.d/themisto_lab.json",
}


class LabExtensionHook(BuildHookInterface[Any]):
    """Adds the built front end to the wheel's shared data."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "standard" for a wheel, "editable" for an editable install."""
        if version == "editable" or self.target_name != "wheel":
            return  # an editable install links the built front end instead, so that a new build is seen
        if not Path(self.root, _BUILT, "package.json").exists():
            self._build(Path(self.root, "lab_extension"))
        build_data["shared_data"].update(_SHARED)

    def _build(self, folder: Path) -> None:
        npm = shutil.which(os.environ.get("THEMISTO_NPM", "npm"))
        if npm is None:
            raise RuntimeError("The Lab extension is not built and there is no npm: run `make setup` first.")
        for step in (["ci", "--ignore-scripts"], ["run", "build:prod"]):
            subprocess.run([npm, *step], cwd=folder, check=True, timeout=600)
