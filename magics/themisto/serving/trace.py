"""Trace: the W3C trace context that a prediction carries from the notebook to the model server.

https://www.w3.org/TR/trace-context/. Where the notebook records spans, `predict` is one of them; where
not, the request gets a trace id of its own, which is in the answer and in the gateway's log.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from themisto.spans import span

__all__ = ["Trace", "traced"]


class Trace(NamedTuple):
    """Where in which trace a request is."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    sampled: bool = False
    """Somebody records this trace, so the gateway shall, too."""

    @property
    def header(self) -> str:
        """`traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


@contextmanager
def traced(endpoint: str) -> Iterator[Trace]:
    """The trace of one `predict`: a span of the notebook, or a new id that nobody records."""
    with span("themisto.predict", {"themisto.endpoint": endpoint}, kind="client") as made:
        yield Trace(*made.context) if made.context else Trace(secrets.token_hex(16), secrets.token_hex(8))
