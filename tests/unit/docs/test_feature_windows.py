"""docs/feature-windows.md: its code, run in its order, gives what it says; its sentences are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import themisto
from themisto.errors import Invalid
from themisto.features import rowwise, windows
from themisto.features.on_demand import Expressions, OnDemand
from themisto.features.resolve import resolve
from themisto.features.rowfile import write_parquet

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "feature-windows.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ERRORS = re.findall(r"^\| ([^|]+) \| ([A-Z'][^|]+\.) \|$", TEXT.partition("## What can go wrong")[2], re.MULTILINE)


def test_what_each_line_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from themisto import workbench

    monkeypatch.delenv("THEMISTO_URL", raising=False)
    monkeypatch.setenv("THEMISTO_HOME", str(tmp_path))
    monkeypatch.setattr(workbench, "_current", None)
    namespace: dict = {"__name__": "cell"}
    checked = 0
    for block in BLOCKS:
        file = tmp_path / "cell.py"
        file.write_text(block)  # where the source of functions is found
        pending: list[str] = []
        for number, line in enumerate(block.splitlines()):
            code, arrow, given = line.partition("  # → ")
            if not arrow:
                pending.append(line)
                continue
            run(pending, file, namespace)
            pending = [""] * (number + 1)
            assert repr(eval(code, namespace)) == given, code
            checked += 1
        run(pending, file, namespace)
    assert checked == TEXT.count("  # → ") == 12


def run(lines: list[str], file: Path, namespace: dict) -> None:
    exec(compile("\n".join(lines), str(file), "exec"), namespace)


def view(**more) -> themisto.FeatureView:
    at = pd.to_datetime(["2026-01-01"] * 2, utc=True)
    source = pd.DataFrame({"customer": [1, 1], "paid_at": at, "amount": [1.0, 2.0], "merchant": ["a", "b"]})
    given = {"every": "5m", "aggregates": [themisto.Aggregate("amount", "avg", over="1h")]} | more
    customer = themisto.Entity("customer", keys=["customer"])
    return themisto.FeatureView("spending", entity=customer, at="paid_at", source=source, **given)


def test_mistakes_are_told_as_it_says(tmp_path: Path) -> None:
    def without_sequence() -> None:
        made = view()
        write_parquet(made, made.source, tmp_path)

    def without_column() -> None:
        usual = themisto.FeatureView(
            "v", entity=themisto.Entity("c", keys=["c"]), at="t", features={"usual": "float64"}
        ).with_version(1)
        ratio = OnDemand("ratio", "amount / usual", request={"amount": "float64"})
        service = themisto.FeatureService("s", features=["v"], on_demand=[ratio])
        Expressions(resolve(service, lambda _: usual, version=1)).of_rows([[1.0]], {})

    sums = "SELECT customer, paid_at, sum(amount) AS s FROM source GROUP BY ALL"
    mistakes = [
        lambda: view(every="7m"),
        without_sequence,
        lambda: view(aggregates=[themisto.Aggregate("merchant", "sum", over="1d")]),
        lambda: view(ttl="1h"),
        lambda: view(transform=sums),
        without_column,
    ]
    for (_, told), mistake in zip(ERRORS, mistakes, strict=True):
        with pytest.raises(Invalid) as raised:
            mistake()
        assert raised.value.detail.replace("spending' does", "burden' does") == told


def test_every_function_and_limit_is_told() -> None:
    told = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE))
    named = {name for cell in told for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(windows.Function.__args__)
    assert f"{windows.MAX_EVENTS:,}" in TEXT
    assert f"{windows._MAX_BUCKETS:,}" in TEXT
    assert rowwise.LIMITS["memory_limit"] == "512MB"
    assert f"{rowwise._BUDGET_S:g} s on a server" in TEXT
