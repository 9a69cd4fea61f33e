"""Apart: a deployed function in a process of its own, which may be another Python with other packages.

One message is a JSON head (length first, 8 bytes little-endian), then the bytes of its tensors; text
travels as a JSON list. Nothing is pickled: the two sides may have different numpys.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["Apart", "Ended", "serve"]

_LENGTH = struct.Struct("<Q")
_END_S = 2.0


class Ended(RuntimeError):
    """The process ended, or was ended because it took too long."""


class Apart:
    """Answers as `Answering(folder)` does, in `python`; a process that has ended is started again at the next call."""

    def __init__(self, folder: Path, python: str, *, timeout_s: float, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._python = python
        self._timeout_s = timeout_s
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __call__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Raises RuntimeError with the function's own words, Ended where it ended or took too long."""
        if self._process is None:
            self.start()
        return self._exchange(_packed(arrays))

    def start(self) -> None:
        """Start the process and wait until the function is loaded. Raises as a call does."""
        code = (
            f"import sys; sys.path.insert(0, {str(self._folder)!r}); import portable.apart as a; a.serve(sys.argv[1])"
        )
        self._process = subprocess.Popen(
            [self._python, "-I", "-c", code, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=self._environment,
        )
        try:
            self._exchange(b"")
        except RuntimeError:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _exchange(self, message: bytes) -> dict[str, np.ndarray[Any, Any]]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if message:
                process.stdin.write(message)
                process.stdin.flush()
            head, arrays = _read(_Until(process.stdout, time.monotonic() + self._timeout_s))
        except TimeoutError:
            process.kill()
            self.close()
            raise Ended(f"it took more than {self._timeout_s:.0f} s") from None
        except (EOFError, OSError):
            self.close()
            raise Ended(f"its process ended with {process.returncode}") from None
        if "error" in head:
            raise RuntimeError(head["error"])
        return arrays


def serve(folder: str) -> None:
    """In the process: load the function, then answer until standard input ends."""
    taken, given = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints is no answer
    try:
        from .answering import Answering

        answering = Answering(Path(folder))
        _write(given, {}, {})
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the one who waits must hear
        _write(given, {"error": _said(error)}, {})
        return
    while True:
        try:
            _, arrays = _read(taken)
        except EOFError:
            return
        try:
            answer = answering(arrays)
        except Exception as error:  # noqa: BLE001 - whatever the function raises is the answer
            _write(given, {"error": _said(error)}, {})
        else:
            _write(given, {}, answer)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


class _Until:
    """Reads from a pipe until a moment has come. Raises TimeoutError."""

    def __init__(self, pipe: Any, deadline: float) -> None:
        self._pipe = pipe
        self._deadline = deadline

    def read(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            wait = self._deadline - time.monotonic()
            if wait <= 0 or not select.select([self._pipe], [], [], wait)[0]:
                raise TimeoutError
            part = os.read(self._pipe.fileno(), min(left, 1 << 20))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _packed(arrays: Mapping[str, np.ndarray[Any, Any]], **head: Any) -> bytes:
    tensors, blobs = [], []
    for name, array in arrays.items():
        text = array.dtype.kind in "OUS"
        if text:
            blob = json.dumps([v.decode() if isinstance(v, bytes) else str(v) for v in array.reshape(-1)]).encode()
        else:
            blob = np.ascontiguousarray(array).tobytes()
        tensors.append([name, "text" if text else array.dtype.str, list(array.shape), len(blob)])
        blobs.append(blob)
    said = json.dumps({**head, "tensors": tensors}).encode()
    return b"".join([_LENGTH.pack(len(said)), said, *blobs])


def _write(pipe: BinaryIO, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    pipe.write(_packed(arrays, **head))
    pipe.flush()


def _read(pipe: Any) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    (size,) = _LENGTH.unpack(_all(pipe, _LENGTH.size))
    head: dict[str, Any] = json.loads(_all(pipe, size))
    arrays = {}
    for name, kind, shape, length in head["tensors"]:
        blob = _all(pipe, length)
        flat = np.array(json.loads(blob), dtype=object) if kind == "text" else np.frombuffer(blob, kind).copy()
        arrays[name] = flat.reshape(shape)
    return head, arrays


def _all(pipe: Any, size: int) -> bytes:
    data: bytes = pipe.read(size)
    if len(data) != size:
        raise EOFError
    return data
