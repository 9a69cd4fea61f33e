"""The tables of docs/streams.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from themisto_hub.streams.metrics import Metrics
from themisto_hub.streams.models import Stream
from themisto_hub.streams.records import Answer, Request

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "streams.md").read_text()


@pytest.mark.parametrize("name", Stream.model_fields)
def test_setting_is_told_with_its_default(name):
    (row,) = [line for line in TEXT.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    default = Stream.model_fields[name].default
    if isinstance(default, int | float):
        assert row.split("|")[2].strip() == f"{default:g}"


def test_headers_are_told():
    request = Request("in", 0, 0, "r-1", None, b"")
    answer = Answer(request, 200, b"", "credit@7", "rule", 1.0)
    assert set(re.findall(r"^\| `([a-z-]+)` \| [^|]+ \|$", TEXT, re.MULTILINE)) >= {name for name, _ in answer.headers}


def test_metrics_are_told():
    kept = re.findall(rb"^# TYPE (\w+) (counter|gauge|histogram)$", Metrics().exposition(), re.MULTILINE)
    told = {name.decode() for name, _ in kept if not name.endswith(b"_created")}
    assert told == set(re.findall(r"^\| `(themisto_stream_\w+)` \|", TEXT, re.MULTILINE))
