"""Token: a stream's right to ask its one endpoint, signed by the control plane for ten minutes."""

from __future__ import annotations

import threading
import time

import httpx
from pydantic import SecretStr

from themisto.errors import Refused, ThemistoError, Unavailable

__all__ = ["STREAMS_KEY", "Token"]

STREAMS_KEY = "x-streams-key"
_EARLY_S = 120.0
"""A new one is asked for that long before the end, so that the control plane may be away for a moment."""
_PAUSE_S = 5.0
_REFUSED_PAUSE_S = 60.0
"""A refusal is an event in the audit chain: not one for each request that waits."""


class Token:
    """Asked for when needed and kept until shortly before its end; may be used by many threads."""

    def __init__(self, control_url: str, stream: str, key: SecretStr) -> None:
        """`control_url` is the control plane's own address, not the proxy's."""
        self._url = f"{control_url}/api/v1/streams/{stream}/token"
        self._key = key
        self._lock = threading.Lock()
        self._token, self._until_s, self._not_before_s = "", 0.0, 0.0
        self._problem: ThemistoError = Unavailable("The gateway does not take this stream's token.", "Wait a moment.")

    def get(self) -> str:
        """Raises Unavailable, Refused."""
        with self._lock:
            now = time.time()
            if now > self._until_s - _EARLY_S and now > self._not_before_s:
                try:
                    self._token, self._until_s = self._ask()
                    self._not_before_s = now + _PAUSE_S
                except ThemistoError as error:
                    self._not_before_s = now + (_REFUSED_PAUSE_S if isinstance(error, Refused) else _PAUSE_S)
                    self._problem = error
            if now > self._until_s:
                raise type(self._problem)(self._problem.detail, self._problem.remedy)
            return self._token

    def forget(self, token: str) -> None:
        """The gateway does not take this one any more: the next `get` asks for another."""
        with self._lock:
            if token == self._token:
                self._until_s = 0.0

    def _ask(self) -> tuple[str, float]:
        try:
            answer = httpx.post(
                self._url, headers={STREAMS_KEY: self._key.get_secret_value()}, timeout=10, trust_env=False
            )
        except httpx.TransportError as error:
            raise Unavailable("The control plane does not answer.", "Try again in a moment.") from error
        if answer.status_code >= 500:
            raise Unavailable(f"The control plane answered HTTP {answer.status_code}.", "Try again in a moment.")
        if answer.status_code != 200:
            raise Refused(
                f"The control plane gives this stream no token: HTTP {answer.status_code}.",
                "Start the control plane again: it reads THEMISTO_STREAMS when it starts.",
            )
        told = answer.json()
        return str(told["token"]), float(told["expires_at_s"])
