"""docs/feature-streams.md: its code gives what it says; its tables are those of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import themisto
from themisto.features.messages import Message, decode
from themisto_hub.control.features.streaming import KEPT_POISON
from themisto_hub.feature_streams.metrics import Metrics
from themisto_hub.settings import Deployment

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "feature-streams.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def run(capsys: pytest.CaptureFixture[str]) -> tuple[dict, str]:
    namespace: dict = {"__name__": "cell"}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(text, namespace)
    return namespace, capsys.readouterr().out


def test_examples_run(capsys) -> None:
    _, out = run(capsys)
    assert out == "[20.5] [\"'amount' is text that is not of float64\"]\n"


def test_reasons_are_those_of_the_code(capsys) -> None:
    view = run(capsys)[0]["payments"]
    told = set(re.findall(r"^\| [^|]+ \| `([^`]+)` \|$", TEXT.partition("| the reason |")[2], re.MULTILINE))
    given = [None, b"{", b'{"customer": "a", "paid_at": 1, "number": 1, "amount": "x"}', b'{"paid_at": 1, "number": 1}']
    found = {p.reason for p in decode(view, [Message(0, n, value) for n, value in enumerate(given)]).poison}
    assert found <= told


@pytest.mark.parametrize("name", themisto.Topic.model_fields)
def test_setting_is_told_with_its_default(name: str) -> None:
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |")]
    default = themisto.Topic.model_fields[name].default
    if isinstance(default, str):
        assert row.split("|")[2].strip() == f"`{default}`"


def test_metrics_are_told() -> None:
    kept = re.findall(rb"^# TYPE (\w+) (counter|gauge|histogram)$", Metrics().exposition(), re.MULTILINE)
    told = {name.decode() for name, _ in kept if not name.endswith(b"_created")}
    assert told == set(re.findall(r"^\| `(themisto_feature_stream_\w+)` \|", TEXT, re.MULTILINE))


def test_settings_are_read(tmp_path) -> None:
    (declared,) = [tomllib.loads(text) for kind, text in BLOCKS if kind == "toml"]
    assert Deployment(state=tmp_path, **declared).feature_topics == {"data-science": ("payments", "cards.*")}


def test_figures_are_those_of_the_code() -> None:
    assert f"newest\n{KEPT_POISON:,} such messages" in TEXT
