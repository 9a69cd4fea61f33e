"""`1/model.py` of a deployed function: requests in one call to it, its answer split among them again.

Runs in the model server's own environment, in a process of Triton's; imports nothing of themisto but the
files of `themisto.serving.portable`, which lie beside it. A function with a `requirements.txt` runs in a
child process, in the environment that was packed for just those.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # exists only inside Triton

__all__ = ["TritonPythonModel"]

_TIMEOUT_S = 60.0


class TritonPythonModel:
    """One instance of one function."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        sys.path.insert(0, str(folder))
        self._answer: Any = _apart(folder) if (folder / "requirements.txt").exists() else _here(folder)
        from portable.answering import signature_of  # type: ignore[import-not-found]  # beside this file

        self._inputs, self._outputs = signature_of(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests in one call; each by itself if that fails, so that a bad one fails alone."""
        try:
            return self._run(requests)
        except Exception as error:  # noqa: BLE001 - whatever the function raises is the caller's answer
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(error=pb_utils.TritonError(_said(error)))]
        return [answer for request in requests for answer in self.execute([request])]

    def finalize(self) -> None:
        """End the child process, where there is one."""
        close = getattr(self._answer, "close", None)
        if close is not None:
            close()

    def _run(self, requests: list[Any]) -> list[Any]:
        arrays, rows = {}, []
        for column in self._inputs:
            parts = [pb_utils.get_input_tensor_by_name(r, column.name).as_numpy() for r in requests]
            rows = [len(p) for p in parts]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            arrays[column.name] = _text(whole) if whole.dtype == np.object_ else whole
        answer = self._answer(arrays)
        bounds = np.cumsum(rows)[:-1]
        split = [np.split(_wire(answer[c.name]), bounds) for c in self._outputs]
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(c.name, np.ascontiguousarray(part[i]))
                    for c, part in zip(self._outputs, split, strict=True)
                ]
            )
            for i in range(len(requests))
        ]


def _here(folder: Path) -> Any:
    from portable.answering import Answering

    return Answering(folder)


def _apart(folder: Path) -> Any:
    from portable.apart import Apart  # type: ignore[import-not-found]

    digest = hashlib.sha256((folder / "requirements.txt").read_bytes()).hexdigest()
    python = Path(os.environ["THEMISTO_ENVIRONMENTS"]) / digest / "bin" / "python"
    if not python.exists():
        msg = "the packages that the model is pinned to are not packed here"
        raise FileNotFoundError(msg)
    environment = {"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    return Apart(folder, str(python), timeout_s=_TIMEOUT_S, environment=environment)


def _text(tensor: Any) -> Any:
    return np.array([v.decode() for v in tensor.reshape(-1)], dtype=np.object_).reshape(tensor.shape)


def _wire(array: Any) -> Any:
    if array.dtype.kind not in "OUS":
        return array
    return np.array([str(v).encode() for v in array.reshape(-1)], dtype=np.object_).reshape(array.shape)


def _said(error: Exception) -> str:
    words = str(error)
    return words if type(error).__name__ in ("RuntimeError", "Ended") else f"{type(error).__name__}: {words}"
