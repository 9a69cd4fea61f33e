"""The trace of a prediction: in the request, in the answer, and a span of the notebook's own trace if it has one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from themisto.serving.trace import traced

HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[01]\Z")


@pytest.fixture
def credit(serving, booster, numbers):
    serving.deploy("credit", booster, numbers)
    return serving.endpoint("credit")


def test_every_request_of_a_call_is_in_one_trace_which_the_answer_names(credit, plane, numbers):
    answer = credit.predict(numbers)  # in many parts
    headers = {sent["traceparent"] for _, sent, _ in plane.asked}
    assert len(plane.asked) > 10
    assert [HEADER.match(h)[1] for h in headers] == [answer.attrs["trace_id"]]


def test_two_calls_are_two_traces(credit, numbers):
    first, second = (credit.predict(numbers.head(1)).attrs["trace_id"] for _ in range(2))
    assert first != second


def test_without_opentelemetry_it_is_not_imported_and_nobody_records():
    code = (
        "import sys\nfrom themisto.serving.trace import traced\n"
        "with traced('credit') as trace: print(trace.header)\n"
        "assert not any(m.startswith('opentelemetry') for m in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00\n", done.stdout)


def test_a_call_is_a_span_of_the_notebooks_trace(monkeypatch):
    """In a process of its own: a tracer provider is set once and for ever."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from themisto.serving.trace import traced
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
with trace.get_tracer("notebook").start_as_current_span("cell") as cell:
    with traced("credit.v2") as made:
        pass
(span, _) = kept.get_finished_spans()
assert span.name == "themisto.predict" and span.attributes["themisto.endpoint"] == "credit.v2"
assert span.parent.span_id == cell.get_span_context().span_id
assert made.header == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01", made.header
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)


def test_an_error_leaves_the_block_as_it_is():
    with pytest.raises(ZeroDivisionError), traced("credit"):
        1 / 0  # noqa: B018
