"""The control plane's spans: named by routes, without what callers write into paths and queries."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.fakes.otlp import Collector

CODE = """
from fastapi import APIRouter, FastAPI, HTTPException
from starlette.testclient import TestClient
from themisto import spans
from themisto.span_settings import SpanSettings
from themisto_hub.control.tracing import Traced

spans.start("control", SpanSettings())
app, router = FastAPI(), APIRouter()

@router.get("/endpoints/{name}/labels/{customer}")
def labels(name: str, customer: str) -> dict: return {}

@app.get("/fails")
def fails() -> None: raise RuntimeError("kim has 4711")

@app.get("/down")
def down() -> None: raise HTTPException(503)

@app.get("/events")
def events() -> dict: return {}

app.include_router(router, prefix="/services/themisto/api/v1")
app.add_middleware(Traced)
client = TestClient(app, raise_server_exceptions=False)
header = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "authorization": "token kims"}
client.get("/services/themisto/api/v1/endpoints/credit/labels/kim?of=kim", headers=header)
for path in ("/fails", "/down", "/events", "/nothing/kim"):
    client.get(path)
"""


@pytest.fixture(scope="module")
def sent():
    """The spans of one process, whose requests ended in every way, and their bytes."""
    with Collector() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "PYTHONPATH": ":".join(sys.path)}
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CODE],
            env={"PATH": "/usr/bin:/bin"} | environment,
            check=True,
            timeout=120,
        )
        yield {span.name: span for span in collector.spans}, b"".join(collector.raw)


def test_a_request_goes_on_with_the_callers_trace(sent):
    span = sent[0]["GET /endpoints/{name}/labels/{customer}"]
    assert (span.trace, span.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert span.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/endpoints/{name}/labels/{customer}",
        "themisto.endpoint": "credit",
    }


def test_failures_are_marked(sent):
    assert (sent[0]["GET /down"].status, sent[0]["GET /down"].attributes["error.type"]) == (2, "503")
    assert (sent[0]["GET /fails"].status, sent[0]["GET /fails"].attributes["error.type"]) == (2, "RuntimeError")
    assert sent[0]["GET"].status == 0  # a path that leads nowhere has no route to be named by


def test_a_stream_without_an_end_is_no_span(sent):
    assert not [name for name in sent[0] if "events" in name]


def test_nothing_that_callers_write_is_in_them(sent):
    assert b"kim" not in sent[1]
