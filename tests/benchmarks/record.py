"""Figures: printed as they come, then build/bench.json and the table in docs/benchmarks.md."""

import datetime as dt
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

_JSON = Path("build/bench.json")
_DOCS = Path("docs/benchmarks.md")
_BETWEEN = re.compile(r"(<!-- figures -->\n).*?(<!-- end -->)", re.DOTALL)


def median_s(work: Callable[[], object], runs: int = 5, warm: int = 1) -> float:
    """Median seconds of `work` over `runs` runs, after `warm` uncounted ones."""
    for _ in range(warm):
        work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


class Record:
    """Keeps what was measured in this run; figures of other benchmarks stay as they are."""

    def __init__(self) -> None:
        known = json.loads(_JSON.read_text()) if _JSON.exists() else []
        self._rows: dict[str, dict[str, object]] = {row["name"]: row for row in known}

    def add(self, name: str, unit: str, ours: float, peer: float, peer_name: str) -> None:
        """`ratio` is ours / peer: below one, ours takes less. None where the peer's is nothing."""
        ratio = round(ours / peer, 3) if peer else None
        self._rows[name] = {
            "name": name,
            "unit": unit,
            "ours": round(ours, 4),
            "peer": round(peer, 4),
            "peer_name": peer_name,
            "ratio": ratio,
        }
        print(f"  {name}: ours {ours:.4g} {unit}, {peer_name} {peer:.4g} {unit}, ratio {ratio}", flush=True)

    def write(self, *, table: bool) -> None:
        """build/bench.json, and the table of the docs too."""
        _JSON.parent.mkdir(exist_ok=True)
        rows = list(self._rows.values())
        _JSON.write_text(json.dumps(rows, indent=1) + "\n")
        if not table:
            return
        head = "| name | unit | ours | peer | ratio ours/peer | peer is |\n|---|---|---|---|---|---|\n"
        lines = head + "".join(
            f"| {r['name']} | {r['unit']} | {r['ours']} | {r['peer']} | {r['ratio']} | {r['peer_name']} |\n"
            for r in rows
        )
        when = dt.datetime.now(dt.UTC).date().isoformat()
        machine = (
            f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        )
        text = _DOCS.read_text()
        _DOCS.write_text(_BETWEEN.sub(lambda m: f"{m[1]}Measured on {when}; {machine}.\n\n{lines}{m[2]}", text))
