"""What the looking verbs show: an effect with its interval, a frontier of latency and throughput, counts."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

from themisto.display import Card, Table
from themisto.serving.batch import Done
from themisto.serving.bench import Bench, Point, frontier, meets, proposal
from themisto.serving.experiment import Arm, Effect
from themisto.serving.models import Release

__all__ = ["Frontier", "batch_card", "effect_card", "exported", "labelled"]


def exported(found: Mapping[str, Any]) -> Card:
    """A log that was written to a file."""
    sql = f"FROM '{found['file']}'"
    return Card(found["file"], {"rows": found["rows"], "requests": found["requests"], "DuckDB": sql})


def labelled(endpoint: str, counts: Mapping[str, int]) -> Card:
    """Labels that were sent."""
    return Card(f"labels of {endpoint}", counts, f"Joined: %deploy log {endpoint} --labels")


def batch_card(done: Done) -> Card:
    """A batch that is whole."""
    facts = {
        "release": done.release,
        "rows": done.rows,
        "parts": f"{done.parts} ({done.kept} done before)" if done.kept else done.parts,
        "seconds": round(done.seconds, 1),
        "DuckDB": f"FROM '{done.folder}/*.parquet'",
    }
    return Card(f"{done.endpoint}: batch in {done.folder}", facts)


def effect_card(found: Effect) -> Card:
    """Effect, interval, method, and whether the split can be trusted."""
    relative = f" ({found.difference / abs(found.control.mean):+.1%})" if found.control.mean else ""
    facts: dict[str, Any] = {
        "control": _arm(found.control),
        "treatment": _arm(found.treatment),
        "effect": f"{found.difference:+.4g}{relative}",
        f"{found.confidence:.0%} interval": f"{found.low:+.4g} to {found.high:+.4g}",
        "method": f"{found.method}; counted by {found.unit}",
    }
    if found.srm_p is not None:
        asked = f"asked for {found.share_pct} %, got {_share(found):.1f} %, p = {found.srm_p:.2g}"
        facts["split"] = f"NOT AS CONFIGURED: {asked}" if found.uneven else f"as configured: {asked}"
    notes = " ".join(note for note in (found.caution, *found.notes) if note)
    return Card(f"{found.treatment.release} against {found.control.release}: {found.metric}", facts, notes)


def _arm(arm: Arm) -> str:
    return f"{arm.release}: mean {arm.mean:.5g} of {arm.values:,} values, {arm.exposed:,} exposed"


def _share(found: Effect) -> float:
    return 100 * found.treatment.exposed / (found.treatment.exposed + found.control.exposed)


class Frontier:
    """What a bench measured: a table, a plot where there is a browser, and the configuration for the service level."""

    def __init__(self, bench: Bench, slo: Mapping[str, str], released: Release | None = None) -> None:
        self.bench = bench
        self.slo = dict(slo)
        self.released = released
        self.proposal = proposal(bench, slo)
        self._best = frontier(bench.points)
        points = sorted(bench.points, key=lambda p: (p.way, p.concurrency))
        self.table = Table(
            ["instances", "batching", "at once", "requests/s", "p50 ms", "p95 ms", "p99 ms", "frontier", "SLO"],
            [self._row(point) for point in points],
            title=f"{bench.endpoint}@{bench.release}, one row a request, largest batch {bench.serving.max_batch}",
        )

    def _row(self, point: Point) -> list[Any]:
        return [
            point.instances,
            point.delay,
            point.concurrency,
            f"{point.requests_per_s:,.0f}",
            f"{point.p50_ms:.2f}",
            f"{point.p95_ms:.2f}",
            f"{point.p99_ms:.2f}",
            "*" if point in self._best else "",
            ("yes" if meets(point, self.slo) else "no") if self.slo else "",
        ]

    @property
    def verdict(self) -> str:
        """The proposal in a sentence."""
        asked = " and ".join(f"{name} of {value}" for name, value in self.slo.items()) or "no service level"
        if self.proposal is None:
            return f"No configuration met {asked}. Relax it, or make the model smaller."
        point, serving = self.proposal
        batching = f",delay={serving.queue_delay_us}us" if serving.queue_delay_us is not None else ""
        how = f"--batch max={serving.max_batch}{batching},instances={serving.instances}"
        said = f"For {asked}: {how} ({point.requests_per_s:,.0f} requests/s, p99 {point.p99_ms:.2f} ms)."
        if self.released is None:
            return f"{said} The same line with --apply releases it."
        return f"{said} Released as {self.released}: %deploy status {self.bench.endpoint}."

    def plot(self) -> Any:
        """The frontier as a matplotlib Figure: throughput against p99, the load beside each point."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for way in sorted({p.way for p in self.bench.points}):
            line = sorted((p for p in self.bench.points if p.way == way), key=lambda p: p.concurrency)
            instances = line[0].instances
            name = f"{instances} instance{'s' if instances > 1 else ''}, batching {line[0].delay}"
            axes.plot([p.requests_per_s for p in line], [p.p99_ms for p in line], "o-", label=name, alpha=0.6)
            for p in line:
                axes.annotate(str(p.concurrency), (p.requests_per_s, p.p99_ms), fontsize=8, alpha=0.7)
        axes.plot([p.requests_per_s for p in self._best], [p.p99_ms for p in self._best], "k--", label="frontier")
        if "p99" in self.slo:
            axes.axhline(float(self.slo["p99"].removesuffix("ms")), color="red", linewidth=1, label="SLO")
        axes.set_xlabel("requests/s")
        axes.set_ylabel("p99, ms")
        axes.set_yscale("log")
        axes.set_title(f"{self.bench.endpoint}@{self.bench.release}: requests at once beside each point")
        axes.legend(fontsize=8)
        return figure

    def __repr__(self) -> str:
        return f"{self.table!r}\n{self.verdict}"

    def _repr_html_(self) -> str:
        try:
            png = io.BytesIO()
            self.plot().savefig(png, format="png", dpi=110)
            image = f'<img alt="frontier" src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">'
        except ImportError:
            image = ""
        return f"{image}{self.table._repr_html_()}<p>{escape(self.verdict)}</p>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
