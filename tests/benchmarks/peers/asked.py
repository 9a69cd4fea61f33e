"""One side of a benchmark as a process of its own: a JSON object a line in, its figures a line out.

Imported by ours and by the peers in their own environments, so it has nothing but the standard library.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def answer(work: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Do `work` for each line of standard input; its seconds, and the peak memory so far, go with what it returns."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        found = work(json.loads(line))
        taken = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": taken, "peak_gib": peak} | (found or {})), flush=True)
