"""`python -I packing.py UV PYTHON FOLDER`, pins on standard input: one environment, of wheels alone.

A script that runs under the packer's uid, which may read no more than this file. Nothing that is installed is run:
bytecode is compiled by an interpreter that looks into no package.
"""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

_WHEELS = ("--no-deps", "--only-binary", ":all:")


def main(uv: str, python: str, folder: str) -> int:
    """Make it, and say so by the file `ready` when it is whole. The exit code of what failed."""
    os.umask(0o022)  # every member reads it
    pins = sys.stdin.read()
    for command in (
        [uv, "venv", "--quiet", "--no-config", "--allow-existing", "--python", python, folder],
        [uv, "pip", "install", "--quiet", *_WHEELS, "--python", f"{folder}/bin/python", "-r", "-"],
    ):
        done = subprocess.run(command, input=pins, text=True, check=False)
        if done.returncode:
            return done.returncode
    compiled = [f"{folder}/bin/python", "-I", "-S", "-m", "compileall", "-qq", "-j", "0", f"{folder}/lib"]
    subprocess.run(compiled, stdin=subprocess.DEVNULL, check=False)  # a test file of Python 2 does not matter
    (Path(folder) / "ready").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
