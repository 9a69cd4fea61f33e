"""The settings of docs/tracing.md are those that are read. Its Python is run by tests/integration/spans."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from themisto.span_settings import SpanSettings
from themisto_hub.settings import Deployment

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "tracing.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def test_its_file_is_read(tmp_path, monkeypatch):
    (example,) = [text for kind, text in BLOCKS if kind == "toml"]
    file = tmp_path / "themisto.toml"
    file.write_text(example)
    monkeypatch.setitem(Deployment.model_config, "toml_file", [file])
    read = Deployment()
    assert {name: getattr(read, name) for name in SpanSettings.model_fields} == tomllib.loads(example)
    assert read.share == 0.01


def test_its_line_names_the_variable_that_is_read(monkeypatch):
    (line,) = [text for kind, text in BLOCKS if kind == "console"]
    name, value = line.split()[0].split("=")
    monkeypatch.setenv(name, value)
    assert Deployment().traces_url == "http://127.0.0.1:4318/v1/traces"


def test_its_table_has_every_setting_and_its_default():
    rows = dict(re.findall(r"^\| `(OTEL_\w+)` \| `?([^`|]+?)`? \|", TEXT, re.MULTILINE))
    fields = SpanSettings.model_fields
    assert rows == {name.upper(): str(field.default or "none").lower() for name, field in fields.items()}


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
