"""perf_analyzer: Triton's own load generator, one measurement a call.

https://github.com/triton-inference-server/perf_analyzer. It comes with the model server's environment
(locks/triton.txt) and asks over gRPC, so that a socket is as good an address as a port.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from themisto.errors import Failed, NotFound, Unavailable
from themisto.serving.models import Golden, Signature
from themisto_hub.model_server.server import environment_folder

__all__ = ["PerfAnalyzer", "write_inputs"]

_ROWS = 32
_WINDOWS = 3
"""perf_analyzer ends after three windows in a row that have requests in them; on a stalled machine it takes more."""

_ANY = "1000000"
"""How far windows may differ, in %: as far as they like. What differs is a finding, told by the p99 (one stall of
200 ms in a window makes its p99 a hundred times another's)."""

_MAX_WINDOWS = 10
_SLACK_S = 30.0
_POLL_S = 0.1
_KINDS: Mapping[str, Callable[..., Any]] = {
    "BYTES": str,
    "BOOL": bool,
    "INT32": int,
    "INT64": int,
    "FP32": float,
    "FP64": float,
}
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


class PerfAnalyzer:
    """Measures one model at one gRPC address; files lie below `folder`. Raises NotFound where it is not installed."""

    def __init__(self, folder: Path, address: str, model: str, inputs: Path) -> None:
        home = environment_folder()
        self._binary = home / "bin" / "perf_analyzer"
        if not self._binary.exists():
            raise NotFound("perf_analyzer is not installed with the model server.", "Run: make setup.")
        self._folder, self._address, self._model, self._inputs = folder, address, model, inputs
        self._libraries = folder / "lib"
        self._libraries.mkdir(exist_ok=True)
        site = next(iter(sorted((home / "lib").glob("python3.*/site-packages"))))
        for name, pattern in _LIBRARIES.items():  # the model server's wheel carries them under names of its own
            link = self._libraries / name
            if not link.exists():
                link.symlink_to(next((site / "nvidia_pytriton.libs").glob(pattern)))

    def measure(self, concurrency: int, seconds: float, stop: threading.Event) -> dict[str, float]:
        """`requests_per_s`, `p50_ms`, `p95_ms`, `p99_ms` of one row a request, so many at a time.

        Raises Failed with its complaint, Unavailable when `stop` is set.
        """
        answer = self._folder / "measured.csv"
        answer.unlink(missing_ok=True)
        window_ms = max(200, int(seconds * 1000 / _WINDOWS))
        command = [
            *(str(self._binary), "-m", self._model, "-i", "grpc", "-u", self._address),
            *("--input-data", str(self._inputs), "--concurrency-range", str(concurrency)),
            *(
                "--measurement-interval",
                str(window_ms),
                "--max-trials",
                str(_MAX_WINDOWS),
                "--stability-percentage",
                _ANY,
            ),
            *("--percentile", "99", "-f", str(answer)),
        ]
        said = self._run(command, window_ms / 1000 * _MAX_WINDOWS + _SLACK_S, stop)
        try:
            return _measured(answer)
        except (OSError, ValueError, KeyError, StopIteration):
            raise Failed(f"perf_analyzer measured nothing: {said}", "Try again when the machine is quieter.") from None

    def _run(self, command: list[str], timeout_s: float, stop: threading.Event) -> str:
        log = self._folder / "log"
        until = time.monotonic() + timeout_s
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={"PATH": os.defpath, "LD_LIBRARY_PATH": str(self._libraries)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
            try:
                while process.poll() is None and time.monotonic() < until and not stop.wait(_POLL_S):
                    pass
            finally:
                process.kill()
                process.wait()
        if stop.is_set():
            raise Unavailable("The bench was ended.", "Run it again.")
        return " ".join(log.read_text(errors="replace").split())[-500:]


def write_inputs(file: Path, golden: Golden, signature: Signature) -> None:
    """The golden rows as perf_analyzer takes them; a missing number is sent as 0, a missing text as ""."""
    rows = len(next(iter(golden.inputs.values())))
    data = [
        {c.name: _tensor(golden.inputs[c.name][row], c.dtype, c.shape) for c in signature.inputs}
        for row in range(min(rows, _ROWS))
    ]
    file.write_text(json.dumps({"data": data}))


def _tensor(value: Any, dtype: str, shape: tuple[int, ...]) -> Mapping[str, Any]:
    kind = _KINDS[dtype]  # it takes 1.0 for a float and nothing else
    flat = value if isinstance(value, list) else [value]
    return {"content": [kind() if v is None else kind(v) for v in flat], "shape": list(shape) or [1]}


def _measured(file: Path) -> dict[str, float]:
    with file.open(newline="") as lines:
        row = next(csv.DictReader(lines))
    return {
        "requests_per_s": float(row["Inferences/Second"]),
        **{f"p{n}_ms": float(row[f"p{n} latency"]) / 1000 for n in (50, 95, 99)},
    }
