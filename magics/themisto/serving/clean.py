"""A clean process for deployed code: neither this kernel's variables nor its credentials are in it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from themisto.errors import Invalid
from themisto.serving import portable
from themisto.serving.frame import Tensors
from themisto.serving.models import Signature
from themisto.serving.packed import unpack
from themisto.serving.portable.apart import Apart

__all__ = ["portable_files", "run_function", "running"]

_TIMEOUT_S = 120.0
_REMEDY = "What it needs must be in its own source: imports, helpers, constants."


@contextmanager
def running(data: bytes) -> Iterator[Apart]:
    """The zip's `predict` in a new process of this Python, for as long as the block lasts.

    Raises Invalid with the function's own error where it cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="themisto-") as name:
        folder = Path(name)
        for path, content in {**unpack(data, "function.py", "signature.json"), **portable_files()}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        environment = {"PATH": os.defpath, "HOME": name, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
        try:
            process = Apart(folder, sys.executable, timeout_s=_TIMEOUT_S, environment=environment)
        except RuntimeError as error:
            raise Invalid(f"The function fails in a clean process: {error}", _REMEDY) from error
        try:
            yield process
        finally:
            process.close()


def run_function(data: bytes, signature: Signature, inputs: Tensors) -> Tensors:
    """What the zip's `predict` answers to all rows at once. Raises Invalid with the function's own error."""
    with running(data) as process:
        try:
            return process({c.name: inputs[c.name] for c in signature.inputs})
        except RuntimeError as error:
            raise Invalid(f"The function fails in a clean process: {error}", _REMEDY) from error


def portable_files() -> dict[str, bytes]:
    """The code around a function, as it travels with it: `portable/…` to its source."""
    folder = Path(portable.__file__).parent
    return {f"portable/{file.name}": file.read_bytes() for file in sorted(folder.glob("*.py"))}
