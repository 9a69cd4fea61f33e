"""Fifty endpoints after a killed Triton: how long until each has answered again, and in which order."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
from tests.benchmarks.notebook import BODY, Notebook, notebook
from tests.benchmarks.record import Record

from themisto_hub.tour.house import House

_ENDPOINTS = int(os.environ.get("THEMISTO_BENCH_ENDPOINTS", "50"))
_BUSY = 5


def run(record: Record) -> None:
    """Kill dev's Triton behind THEMISTO_BENCH_ENDPOINTS endpoints (50), the last five of them busy ones."""
    with notebook() as bench:
        _restart(bench, record)


def _restart(bench: Notebook, record: Record) -> None:
    names = [f"many-{n}" for n in range(_ENDPOINTS)]
    for n, name in enumerate(names):
        bench.cell(f"%%deploy {name} --sample X --replace\ntrained({200 + n})")
    headers = bench.headers()
    busy = names[-_BUSY:]
    for name in names:
        for _ in range(60 if name in busy else 1):
            httpx.post(bench.url(name), content=BODY, headers=headers, timeout=10).raise_for_status()
    time.sleep(5)  # the prediction log is written
    began = time.perf_counter()
    os.kill(_triton(bench.house).pid, signal.SIGKILL)
    with ThreadPoolExecutor(len(names)) as pool:  # all are asked from the first moment on
        waits = pool.map(lambda name: _back_after_s(bench.url(name), headers, began), names)
        back = dict(zip(names, waits, strict=True))
    order = sorted(names, key=back.__getitem__)
    record.add(f"triton_restart_{_ENDPOINTS}_s", "s", max(back.values()), 60.0, "the budget")
    record.add("triton_restart_busiest_s", "s", max(back[n] for n in busy), max(back.values()), "all of them")
    print(f"  the busiest came back as number {sorted(order.index(n) + 1 for n in busy)}")


def _back_after_s(url: str, headers: dict[str, str], began: float) -> float:
    while time.perf_counter() - began < 300:
        try:
            if httpx.post(url, content=BODY, headers=headers, timeout=10).status_code == 200:
                return time.perf_counter() - began
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not come back")


def _triton(house: House) -> psutil.Process:
    port = str(house.settings.ports.triton["dev"][0])
    for process in psutil.process_iter():
        try:
            if process.name() == "tritonserver" and any(port in word for word in process.cmdline()):
                return process
        except psutil.Error:
            continue
    raise RuntimeError("no Triton runs")
