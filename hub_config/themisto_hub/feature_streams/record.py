"""Record: how the consumer of topics tells the control plane what it read, and learns what there is to read."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from pydantic import SecretStr, TypeAdapter

from themisto.errors import Unavailable, error_for
from themisto_hub.feature_streams.models import FEATURE_STREAMS_KEY, Batch, Fed, Flow, Report
from themisto_hub.streams.metrics import StreamState

__all__ = ["Record"]

_TIMEOUT_S = 300.0
"""Of one batch: the control plane waits for the online store itself."""
_FLOWS = TypeAdapter(list[Flow])
_PLACES = TypeAdapter(dict[int, int])


class Record:
    """The control plane's record of streams; may be used by many threads. All raise Unavailable where it is away."""

    def __init__(self, control_url: str, key: SecretStr) -> None:
        """`control_url` is the control plane's own address, not the proxy's."""
        self._http = httpx.Client(
            base_url=f"{control_url}/api/v1/feature-streams/",
            headers={FEATURE_STREAMS_KEY: key.get_secret_value()},
            timeout=httpx.Timeout(_TIMEOUT_S, connect=5),
            trust_env=False,
        )

    def report(self, states: Sequence[StreamState]) -> list[Flow]:
        """How the streams do; answers which there are to be."""
        body = Report(states=tuple(states)).model_dump_json().encode()
        return _FLOWS.validate_json(self._send("POST", "report", body))

    def places(self, flow: Flow) -> dict[int, int]:
        """By partition the offset that is to be read next; what was never read is not in it."""
        path = f"{flow.group}/{flow.view.name}/places?version={flow.version}"
        return _PLACES.validate_json(self._send("GET", path))

    def feed(self, flow: Flow, batch: Batch, rows: bytes = b"") -> Fed:
        """A batch and its rows in Parquet. Raises Conflict where it is not what comes next, NotFound."""
        body = batch.model_dump_json().encode() + b"\n" + rows
        return Fed.model_validate_json(self._send("POST", f"{flow.group}/{flow.view.name}/rows", body))

    def close(self) -> None:
        self._http.close()

    def _send(self, method: str, path: str, content: bytes | None = None) -> bytes:
        try:
            answer = self._http.request(
                method, path, content=content, headers={"content-type": "application/json"} if content else {}
            )
        except httpx.TransportError as error:
            raise Unavailable("The control plane does not answer.", "Try again in a moment.") from error
        if answer.status_code < 400:
            return answer.content
        try:
            told = answer.json()
        except ValueError:
            told = None
        if answer.status_code >= 500 or not isinstance(told, dict) or "detail" not in told:
            detail = told.get("detail") if isinstance(told, dict) else None
            raise Unavailable(
                str(detail or f"The control plane answered HTTP {answer.status_code}."), "It is tried again."
            )
        raise error_for(answer.status_code, told)
