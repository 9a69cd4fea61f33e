"""A stand-in for an OpenTelemetry collector: OTLP over HTTP in a thread, its spans kept to be looked at.

It takes what is sent: Envoy's protobuf in chunks, the Python SDK's in one piece, Triton's JSON.
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

__all__ = ["Collector", "Span"]


class Span(NamedTuple):
    """One span as it came in; ids in hexadecimal digits, `parent` empty for a root."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    """1 internal, 2 server, 3 client."""
    status: int
    """0 unset, 1 ok, 2 error."""
    attributes: dict[str, Any]
    events: list[str]


class Collector:
    """`with Collector() as collector: … collector.spans`.

    raw: every body as it came, unpacked, to look for what must not be in any.
    asked: how many times something was sent, taken or not.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw: list[bytes] = []
        self.asked = 0
        self._port = 0
        self._answers = threading.Event()
        self._answers.set()
        self._server: ThreadingHTTPServer

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._port}"

    @contextmanager
    def holding(self) -> Iterator[None]:
        """It takes what is sent and answers nobody, as long as the block lasts."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody is there, as long as the block lasts."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()

    def of(self, trace: str) -> list[Span]:
        """All spans of one trace."""
        return [span for span in self.spans if span.trace == trace]

    def wait_for(self, trace: str, complete: Callable[[list[Span]], object], timeout_s: float = 60.0) -> list[Span]:
        """The trace's spans, once `complete` is true of them: exporters send in batches."""
        deadline = time.monotonic() + timeout_s
        while not complete(self.of(trace)):
            if time.monotonic() > deadline:
                told = "\n".join(map(str, self.of(trace))) or f"none, but {len(self.spans)} of other traces"
                raise AssertionError(f"the trace is not complete within {timeout_s} s: {told}")
            time.sleep(0.05)
        return self.of(trace)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, body: bytes, kind: str) -> None:
        request = _from_json(body) if kind == "application/json" else ExportTraceServiceRequest.FromString(body)
        self.raw.append(body)
        for group in request.resource_spans:
            service = _attributes(group.resource.attributes).get("service.name", "")
            for scope in group.scope_spans:
                self.spans += [_span(service, span) for span in scope.spans]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self._body()
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.asked += 1
                collector._answers.wait()
                status = 200 if self.path == "/v1/traces" else 404
                if status == 200:
                    collector._take(body, self.headers["content-type"])
                answer = ExportTraceServiceResponse().SerializeToString()
                with suppress(ConnectionError):  # who has waited too long has gone
                    self.send_response(status)
                    self.send_header("content-type", "application/x-protobuf")
                    self.send_header("content-length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def _body(self) -> bytes:
                if self.headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(self.headers["content-length"]))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _from_json(body: bytes) -> ExportTraceServiceRequest:
    """Protobuf's JSON, but with ids in hexadecimal digits."""

    def ids(found: dict[str, Any]) -> dict[str, Any]:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in found:
                found[name] = base64.b64encode(bytes.fromhex(found[name])).decode()
        return found

    return ParseDict(json.loads(body, object_hook=ids), ExportTraceServiceRequest(), ignore_unknown_fields=True)


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        status=span.status.code,
        attributes=_attributes(span.attributes),
        events=[event.name for event in span.events],
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind) if kind else None
        found[pair.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found
