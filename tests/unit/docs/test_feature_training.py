"""docs/feature-training.md: its code, run in its order, gives what it says; its settings are those there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from themisto import errors
from themisto.settings import Settings

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "feature-training.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_what_each_line_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from themisto import workbench

    monkeypatch.delenv("THEMISTO_URL", raising=False)
    monkeypatch.setenv("THEMISTO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(workbench, "_current", None)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    checked = 0
    for block in BLOCKS:
        pending: list[str] = []
        for line in block.splitlines():
            code, sign, given = re.fullmatch(r"(.*?)(?:  # (→|raises) (.*))?", line).groups()
            if sign is None:
                pending.append(line)
                continue
            exec("\n".join(pending), namespace)
            pending = []
            if sign == "→":
                assert repr(eval(code, namespace)) == given, code
            else:
                with pytest.raises(getattr(errors, given)):
                    eval(code, namespace)
            checked += 1
        exec("\n".join(pending), namespace)
    assert checked == TEXT.count("  # → ") + TEXT.count("  # raises ") == 7


def test_settings_are_those_there_are() -> None:
    told = re.findall(r"^\| `THEMISTO_(FEATURES_\w+)` \| (.*) \|$", TEXT, re.MULTILINE)
    there = [(n.upper(), f.description) for n, f in Settings.model_fields.items() if n.startswith("features_")]
    assert told == there
