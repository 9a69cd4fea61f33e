"""`%load_ext themisto` in a fresh IPython, beside `import mlflow`, which a hand-made set-up starts with."""

import statistics
import subprocess
import sys

from tests.benchmarks.record import Record

_TIMED = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
{what}
print(time.perf_counter() - began)
"""


def run(record: Record) -> None:
    ours = _seconds("shell.run_line_magic('load_ext', 'themisto')")
    record.add("load_ext_s", "s", ours, _seconds("import mlflow"), "import mlflow")


def _seconds(what: str, runs: int = 7) -> float:
    code = _TIMED.format(what=what)
    command = [sys.executable, "-c", code]
    taken = [
        float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
        for _ in range(runs)
    ]
    return statistics.median(taken[1:])
