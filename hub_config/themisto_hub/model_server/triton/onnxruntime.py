"""Backend "onnxruntime" for Triton's Python backend: any repository with `1/model.onnx` runs as it is.

Runs in the model server's own environment, in a process of Triton's; imports nothing of themisto.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # exists only inside Triton

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # instances and batches are the parallelism
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what fails is answered, not logged with a caller's values
        self._session = ort.InferenceSession(str(folder / "model.onnx"), options, ["CPUExecutionProvider"])
        self._inputs = [(i["name"], _inner(i)) for i in config["input"]]
        self._outputs = [(o["name"], _inner(o), o["data_type"] == "TYPE_STRING") for o in config["output"]]
        _require("input", {i.name for i in self._session.get_inputs()}, {name for name, _ in self._inputs}, exact=True)
        _require("output", {o.name for o in self._session.get_outputs()}, {o[0] for o in self._outputs}, exact=False)

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests in one run; each by itself if that fails, so that a bad one fails alone."""
        try:
            return self._run(requests)
        except Exception as error:  # noqa: BLE001 - whatever the runtime raises is the caller's answer
            if len(requests) == 1:
                return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))]
        return [answer for request in requests for answer in self.execute([request])]

    def _run(self, requests: list[Any]) -> list[Any]:
        feeds, rows = {}, []
        for name, inner in self._inputs:
            parts = [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for r in requests]
            rows = [len(p) for p in parts]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            whole = whole.reshape((len(whole), *inner))
            feeds[name] = _text(whole) if whole.dtype == np.object_ else whole
        answers = self._session.run([name for name, _, _ in self._outputs], feeds)
        checked = [self._checked(o, np.asarray(a), sum(rows)) for o, a in zip(self._outputs, answers, strict=True)]
        bounds = np.cumsum(rows)[:-1]
        split = [np.split(a, bounds) if len(rows) > 1 else [a] for a in checked]
        names = [name for name, _, _ in self._outputs]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(n, np.ascontiguousarray(part[i])) for n, part in zip(names, split, strict=True)]
            )
            for i in range(len(requests))
        ]

    def _checked(self, output: tuple[str, tuple[int, ...], bool], answer: Any, rows: int) -> Any:
        """Triton itself lets a wrong shape through."""
        name, inner, text = output
        given = answer.shape[1:]
        fits = len(given) == len(inner) and all(w in (-1, g) for w, g in zip(inner, given, strict=True))
        if not fits or answer.shape[:1] != (rows,):
            msg = f"output '{name}' has shape {list(answer.shape)}; the signature says {[rows, *inner]}"
            raise ValueError(msg)
        return answer.astype(np.object_) if text else answer


def _text(tensor: Any) -> Any:
    return np.array([v.decode() for v in tensor.reshape(-1)], dtype=np.object_).reshape(tensor.shape)


def _inner(tensor: dict[str, Any]) -> tuple[int, ...]:
    """Shape without the batch axis, as the model sees it."""
    dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
    return tuple(int(d) for d in dims)


def _require(what: str, has: set[str], wanted: set[str], *, exact: bool) -> None:
    if wanted - has or (exact and has - wanted):
        msg = f"the model's {what}s are {sorted(has)}, the signature's {sorted(wanted)}"
        raise ValueError(msg)
