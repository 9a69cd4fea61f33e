"""Spans: what took how long, told to an OpenTelemetry collector where one is named.

By default none is named: then nothing of OpenTelemetry is imported and `span` is an empty block. A span
holds names, numbers and kinds of errors, which its caller chooses; never the words of an error, a row, a
key or a token. https://opentelemetry.io/docs/specs/otel/trace/
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from themisto.span_settings import SpanSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["Span", "current", "headers", "span", "start"]

Value = str | bool | int | float
Kind = Literal["internal", "server", "client"]

_EXPORT_TIMEOUT_S = 5.0
_LAST_WORDS_S = 1.0
"""How long the end of a process waits for the spans that were not sent yet."""
_TOLD_EVERY_S = 300.0


class Span:
    """An open span, or none where nothing is recorded: its methods then do nothing."""

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner

    def set(self, attributes: Mapping[str, Value]) -> None:
        """More about it, known later than its beginning."""
        if self._inner is not None:
            self._inner.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        """Its name, where that is known later than its beginning."""
        if self._inner is not None:
            self._inner.update_name(name)

    def failed(self, kind: str) -> None:
        """It did not do what it should; `kind` names the error, its words stay out."""
        if self._inner is not None:
            from opentelemetry.trace import Status, StatusCode

            self._inner.set_attribute("error.type", kind)
            self._inner.set_status(Status(StatusCode.ERROR))

    @property
    def context(self) -> tuple[str, str, bool] | None:
        """Trace id and span id in hexadecimal digits, and whether it is recorded; None where there is no span."""
        found = self._inner.get_span_context() if self._inner is not None else None
        if found is None or not found.is_valid:
            return None
        return f"{found.trace_id:032x}", f"{found.span_id:016x}", bool(found.trace_flags.sampled)

    @property
    def traceparent(self) -> str:
        """The W3C header that makes what is asked next a child of this span; empty where there is none."""
        if self.context is None:
            return ""
        trace, span_id, sampled = self.context
        return f"00-{trace}-{span_id}-{'01' if sampled else '00'}"


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, Value] | None = None,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
) -> Iterator[Span]:
    """A span as long as the block; an error that leaves the block marks it, by its class only.

    parent: a W3C `traceparent`; default: the span that is open here.
    """
    tracer = _tracer()
    if tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind

    with tracer.start_as_current_span(
        name,
        context=_context(parent) if parent else None,
        kind=SpanKind[kind.upper()],
        attributes=dict(attributes or {}),
        record_exception=False,  # its words, and the lines of its traceback, may hold a row
        set_status_on_exception=False,
    ) as inner:
        opened = Span(inner)
        try:
            yield opened
        except BaseException as error:
            opened.failed(type(error).__name__)
            raise


def current() -> Span:
    """The span that is open here."""
    api = sys.modules.get("opentelemetry.trace")
    return Span(api.get_current_span() if api is not None else None)


def headers(*, recorded: bool = False) -> dict[str, str]:
    """What to send along so that who is asked goes on with this trace; empty where none is open.

    recorded: also empty where the trace is not recorded, for who would record all that it is told of.
    """
    open_here = current()
    if open_here.context is None or (recorded and not open_here.context[2]):
        return {}
    return {"traceparent": open_here.traceparent}


def start(service: str, settings: SpanSettings) -> None:
    """Have this process's spans sent, under the name of its service; nothing where the settings name no collector.

    A process that never calls it is a notebook, and reads its own settings at its first span.
    """
    global _provider, _started
    with _lock:
        _started = True
        _provider = _exporting(service, settings, quiet=False)


_lock = threading.Lock()
_started = False
_provider: TracerProvider | None = None


def _tracer() -> Any:
    """The notebook's own set-up of OpenTelemetry counts before ours, which is nobody else's."""
    global _provider, _started
    api = sys.modules.get("opentelemetry.trace")  # who has set up a provider has imported it
    if api is not None and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
        return api.get_tracer("themisto")
    if not _started:
        with _lock:
            if not _started:
                _provider, _started = _of_a_notebook(), True
    return _provider.get_tracer("themisto") if _provider is not None else None


def _of_a_notebook() -> TracerProvider | None:
    try:
        settings = SpanSettings()
    except ValueError as error:  # whatever the variables say, predictions go on
        warnings.warn(f"No spans are sent from here: {error}", stacklevel=4)
        return None
    return _exporting(os.environ.get("OTEL_SERVICE_NAME") or "notebook", settings, quiet=True)


def _exporting(service: str, settings: SpanSettings, *, quiet: bool) -> TracerProvider | None:
    """A provider that sends from a thread of its own; its queue is bounded, and what does not fit is dropped."""
    if settings.traces_url is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        warnings.warn("Spans cannot be sent from here: pip install 'themisto[tracing]'.", stacklevel=4)
        return None
    from themisto import __version__

    provider = TracerProvider(
        sampler=_sampler(settings),
        resource=Resource.create({"service.name": service, "service.version": __version__}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(settings.traces_url, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).addFilter(_Seldom(float("inf") if quiet else _TOLD_EVERY_S))
    _send_the_rest_at_the_end(provider)
    return provider


def _sampler(settings: SpanSettings) -> Sampler:
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    root = TraceIdRatioBased(settings.share)
    return ParentBased(root) if settings.follows_caller else root


def _context(traceparent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def _send_the_rest_at_the_end(provider: TracerProvider) -> None:
    """What is left is sent then; a collector that does not answer keeps no process from its end."""
    ends = threading.Event()

    def rest() -> None:
        ends.wait()
        provider.shutdown()

    sending = threading.Thread(target=rest, name="last spans", daemon=True)
    sending.start()  # now: at its end Python 3.12 starts no thread any more

    def end() -> None:
        ends.set()
        sending.join(_LAST_WORDS_S)

    atexit.register(end)


class _Seldom(logging.Filter):
    """Lets one record through and then none for a while: a collector that is down is not news every second.

    In a notebook not even the first: whoever reads it there can do nothing about it.
    """

    def __init__(self, every_s: float) -> None:
        super().__init__()
        self._every_s = every_s
        self._last_s = 0.0 if every_s == float("inf") else -every_s

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created - self._last_s < self._every_s:
            return False
        self._last_s = record.created
        return True
