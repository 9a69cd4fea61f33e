"""docs/tracing.md does what it says: its Python runs in a notebook, and the spans it names are those that come."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest
from tests.integration.spans.test_one_trace import PREDICT, answered, entered

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "tracing.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
ROWS = [
    (service, span)
    for services, span in re.findall(
        r"^\| (`[^|]+`) \| `([^`]+)` \|", TEXT.partition("## What you see")[2], re.MULTILINE
    )
    for service in re.findall(r"`([^`]+)`", services)
]
SETUP = """
serving.deploy("credit", model(), full)
from themisto.workbench import workbench
workbench().__dict__["serving"] = serving
X_valid, GATEWAY, TOKEN = full, control.discovery.gateway.http, control.gateway_token()
"""


@pytest.fixture(scope="module")
def traces(house):
    """Of its examples, run in one notebook: what is looked up, the span of her own, the given one."""
    code = "\n".join(text for kind, text in BLOCKS if kind == "python")
    said = house.notebook(
        f"{SETUP}\n{code}\nsaid['traces'] = [answer.attrs['trace_id'], first.attrs['trace_id'], TRACE]"
    )
    return said["traces"]


def test_its_examples_are_traced(house, traces):
    looked_up, own, given = traces
    house.collector.wait_for(looked_up, entered)
    spans = house.collector.wait_for(own, lambda s: [one.name for one in s].count("infer") == 2)
    house.collector.wait_for(given, lambda s: "infer" in {one.name for one in s})
    house.collector.wait_for(own, lambda s: "score the applications" in {one.name for one in s})
    assert len({one.trace for one in spans}) == 1


def test_every_span_it_names_comes_and_every_service_is_named(house, traces):
    house.recorded(
        lambda: house.notebook(PREDICT.format(frame="keys"))["trace"],
        lambda s: answered(s) and "features.read" in {one.name for one in s},
    )
    house.collector.wait_for(traces[0], entered)
    seen = {(span.service, span.name) for span in house.collector.spans}
    elsewhere = {("gateway", "shadow"), ("triton-prod", "InferRequest")}  # test_tries, and no prod runs here
    for service, name in set(ROWS) - elsewhere:
        pattern = name.replace("credit--7", "*").replace("…", "*")
        assert any(s == service and fnmatch.fnmatch(n, pattern) for s, n in seen), (service, name)
    assert {service for service, _ in seen} <= {service for service, _ in ROWS}
