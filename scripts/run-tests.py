"""`make test`: pytest; by root in a namespace where every uid reaches the checkout, as `themisto up` has one.

Without arguments all tests run, in a process for each core (four at most); which of them share a process is said in
tests/conftest.py. COVERAGE=1 also prints what share of each package's lines ran in these processes: services that
the tests start as processes of their own do not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from themisto_hub.supervisor import namespace

ROOT = Path(__file__).resolve().parents[1]
# Those that wait most begin first: what is left for the end are the many short ones, which even out.
ALL = ["-n", str(min(os.cpu_count() or 1, 4)), "--no-loadscope-reorder",
       "tests/integration", "tests/browser", "tests/security", "tests/unit"]  # fmt: skip


def main() -> None:
    """Never returns: pytest takes the process over."""
    if not namespace.can_isolate():
        if not namespace.inside():
            namespace.enter([sys.executable, *sys.argv])
        namespace.open_paths([Path(sys.base_prefix), Path(sys.prefix), ROOT])
        os.environ.pop("THEMISTO_NAMESPACE")  # a workbench under test makes one of its own
        os.chdir(ROOT)
    pytest = [sys.executable, "-m", "pytest", *(sys.argv[1:] or ALL)]
    if os.environ.get("COVERAGE"):
        sys.exit(_covered(pytest))
    os.execv(sys.executable, pytest)  # noqa: S606 - our own words


def _covered(pytest: list[str]) -> int:
    """pytest's exit status, after a line of coverage for each package."""
    ended = subprocess.call([*pytest, "--cov", "--cov-report="])
    for package in ("themisto", "themisto_lab", "themisto_hub"):
        print(f"lines of {package} that ran, %: ", end="", flush=True)
        subprocess.call([sys.executable, "-m", "coverage", "report", "--format=total", f"--include=*/{package}/*"])
    return ended


if __name__ == "__main__":
    main()
