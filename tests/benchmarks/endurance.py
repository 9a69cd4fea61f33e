"""Releases, one after the other, under a constant load: what fails, and what grows."""

import os
import threading
from pathlib import Path

import psutil
from tests.benchmarks.load import Load, steady
from tests.benchmarks.notebook import BODY, notebook
from tests.benchmarks.record import Record

from themisto_hub.supervisor.watch import MARK
from themisto_hub.tour.house import House

_RELEASES = int(os.environ.get("THEMISTO_BENCH_RELEASES", "100"))
_PER_S = 200
_PLOT = Path("docs/endurance.svg")
_SERVICES = {"control plane": "themisto_hub.control", "Envoy": "envoy", "Triton": "tritonserver"}


def run(record: Record) -> None:
    """Each replaces the one before; THEMISTO_BENCH_RELEASES of them (100)."""
    with notebook() as bench:
        bench.cell("%%deploy steady --sample X --replace\ntrained(5)")
        found: list[Load] = []
        stop = threading.Event()
        headers = bench.headers()

        def ask() -> None:
            while not stop.is_set():
                found.append(steady(bench.url("steady"), [BODY], headers, per_s=_PER_S, seconds=2))

        thread = threading.Thread(target=ask)
        memory = [_memory_mib(bench.house)]
        thread.start()
        try:
            for number in range(_RELEASES):
                bench.cell(f"%%deploy steady --sample X --replace\ntrained({6 + number})")
                memory.append(_memory_mib(bench.house))
        finally:
            stop.set()
            thread.join()
    asked, failed = sum(len(f.taken_ms) for f in found), sum(f.failed for f in found)
    print(f"  {_RELEASES} releases, {asked} requests, {failed} failed")
    record.add(f"releases_{_RELEASES}_failed", f"requests of {asked}", failed, 0, "none")
    tenth, last = memory[_RELEASES // 10], memory[-1]
    for name in _SERVICES:
        record.add(
            f"memory_{name.lower().replace(' ', '_')}_mib", "MiB", last[name], tenth[name], "after a tenth of them"
        )
    _plot(memory)


def _memory_mib(house: House) -> dict[str, float]:
    """Resident memory of each service's processes, children included."""
    sums = dict.fromkeys(_SERVICES, 0.0)
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) != str(house.state):
                continue
            line = " ".join(process.cmdline()[:6])
            for name, word in _SERVICES.items():
                if word in line or (name == "Triton" and "triton_python_backend_stub" in line):
                    sums[name] += process.memory_info().rss / 2**20
                    break
        except psutil.Error:
            continue
    return sums


def _plot(memory: list[dict[str, float]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3))
    for name in _SERVICES:
        axes.plot([m[name] for m in memory], label=name)
    axes.set(xlabel=f"releases, under {_PER_S} requests a second", ylabel="resident memory, MiB", ylim=(0, None))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(_PLOT, metadata={"Date": None})
