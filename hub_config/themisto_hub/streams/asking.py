"""Asking: one request to the gateway, again and again while the gateway or what is behind it is away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential
from tenacity.nap import sleep_using_event

from themisto.errors import ThemistoError
from themisto_hub.streams.models import Stream
from themisto_hub.streams.records import Answer, Request, refusal

if TYPE_CHECKING:
    from themisto_hub.streams.token import Token

__all__ = ["Abandoned", "Asker"]

_AWAY = frozenset({401, 403, 429, 502, 503})
"""Says nothing of the request: nobody there, too many, or this stream's right to ask."""
_PERHAPS = frozenset({408, 500, 504})
"""May be the request's own fault."""
_TRIES = 3
"""Of what may be the request's own fault; then its answer is the error."""
_LONGEST_PAUSE_S = 5.0
_LATE_S = 5.0
"""The gateway ends a try itself, by 504; one that is silent for longer is away."""


class Abandoned(Exception):
    """The partition is another consumer's by now, or we stop: no answer is wanted."""


class _Again(Exception):
    """Not answered yet."""


class Asker:
    """Asks a stream's endpoint through the gateway; may be used by many threads."""

    def __init__(self, stream: Stream, url: str, token: Token, retried: Callable[[str], None]) -> None:
        """`url` is the gateway's, `retried` is told why before each further try."""
        self._url = f"{url}/v2/models/{stream.endpoint}/infer"
        self._token = token
        self._retried = retried
        self._timeout_ms = str(max(1, round(stream.timeout_s * 1000)))
        limits = httpx.Limits(max_connections=stream.in_flight, max_keepalive_connections=stream.in_flight)
        self._http = httpx.Client(
            timeout=httpx.Timeout(stream.timeout_s + _LATE_S, connect=5), limits=limits, trust_env=False
        )

    def ask(self, request: Request, abandoned: threading.Event) -> Answer:
        """Its answer. Waits as long as the gateway is away, up to 5 s between tries. Raises Abandoned."""
        if request.problem:
            return refusal(request, 400, request.problem)
        faults: list[Answer] = []

        def before_sleep(state: RetryCallState) -> None:
            self._retried(str(state.outcome.exception()) if state.outcome else "")

        again = Retrying(
            wait=wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE_S),
            sleep=sleep_using_event(abandoned),
            retry=retry_if_exception_type(_Again),
            before_sleep=before_sleep,
        )
        return again(self._try, request, abandoned, faults)

    def close(self) -> None:
        self._http.close()

    def _try(self, request: Request, abandoned: threading.Event, faults: list[Answer]) -> Answer:
        if abandoned.is_set():
            raise Abandoned
        answer = self._post(request)
        if answer.status in _AWAY:
            raise _Again(f"The gateway answered HTTP {answer.status}.")
        if answer.status in _PERHAPS:
            faults.append(answer)
            if len(faults) < _TRIES:
                raise _Again(f"The gateway answered HTTP {answer.status}.")
        return answer

    def _post(self, request: Request) -> Answer:
        began = time.perf_counter()
        try:
            token = self._token.get()
            headers = {
                "authorization": f"Bearer {token}",
                "content-type": "application/json",
                "themisto-timeout-ms": self._timeout_ms,
                "x-request-id": request.id,
            }
            if request.sticky_key is not None:
                headers["themisto-key"] = request.sticky_key
            response = self._http.post(self._url, content=request.body, headers=headers)
        except ThemistoError as error:
            raise _Again(str(error)) from error
        except httpx.RequestError as error:
            raise _Again("The gateway does not answer.") from error
        if response.status_code == 401:
            self._token.forget(token)
        return _answer(request, response, (time.perf_counter() - began) * 1e3)


def _answer(request: Request, response: httpx.Response, latency_ms: float) -> Answer:
    release = response.headers.get("x-release", "")
    if response.status_code == 200 and "inference-header-content-length" in response.headers:
        return refusal(request, 400, "The request asks for binary outputs; a stream answers in JSON.", release)
    body = response.content if response.status_code == 200 else _error(response)
    return Answer(
        request, response.status_code, body, release, response.headers.get("x-fallback", ""), latency_ms=latency_ms
    )


def _error(response: httpx.Response) -> bytes:
    """As the gateway put it; in the protocol's shape whoever it was that answered."""
    try:
        told = response.json()
    except ValueError:
        told = None
    if isinstance(told, dict) and isinstance(told.get("error"), str):
        return response.content
    return json.dumps({"error": f"The gateway answered HTTP {response.status_code}."}).encode()
