"""The way from the control plane to the process that owns the online store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from themisto.client import map_httpx_errors
from themisto.errors import Failed, Unavailable
from themisto.features.online import OnlineTable, Row
from themisto_hub.control.context import Control

__all__ = ["OnlineWriter"]

_TIMEOUT_S = 60.0


class OnlineWriter:
    """Sends rows to the owner of the online store. Each call tries four times.

    Raises Unavailable where it does not answer, Failed where it refuses.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        # One client: each brings its certificates, which takes longer than a small batch. A connection a call, all the
        # same: the store's owner may be another process by the next one.
        self._http = httpx.Client(timeout=_TIMEOUT_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    def write(self, table: OnlineTable, rows: Sequence[Row], *, new: bool = False) -> None:
        """Rows of one table; none only makes the table. new: none of these entities is known to be online."""
        self._send("rows?new" if new else "rows", b"".join(_lines(table, rows)))

    def erase(self, table: OnlineTable, keys: Sequence[str]) -> None:
        """Remove all rows of the keys."""
        self._send("erase", b"".join(_lines(table, [(key,) for key in keys])))

    @retry(
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_attempt(4),
        wait=wait_random_exponential(0.2, max=3),
        reraise=True,
    )
    def _send(self, what: str, content: bytes) -> None:
        key = self._control.keys.features
        url = f"http://127.0.0.1:{self._control.settings.ports.transformer_http}/internal/v1/{what}"
        with map_httpx_errors("online store"):
            response = self._http.post(
                url, content=content, headers={"x-themisto-key": key.get_secret_value() if key else ""}
            )
        if response.status_code >= 500:
            raise Unavailable(_why(response), "It is tried again.")
        if response.status_code >= 400:
            raise Failed(f"The online store refused the rows: {_why(response)}", "Tell the platform team.")


def _why(response: httpx.Response) -> str:
    """What the owner of the store says; of what is no problem document, its status."""
    try:
        said = response.json()
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("detail"):
        return str(said["detail"])[:500]
    return f"The online store answered HTTP {response.status_code}."


def _lines(table: OnlineTable, rows: Sequence[tuple[Any, ...]]) -> Iterator[bytes]:
    """JSON lines: the table, then one row a line; decimals are text, what is no number is `NaN`."""
    yield table.model_dump_json().encode() + b"\n"
    for row in rows:
        yield json.dumps(row, separators=(",", ":"), default=str).encode() + b"\n"
