"""The gateway as a client sees it: Open Inference Protocol over HTTP, tensors as binary data.

https://kserve.github.io/website/latest/modelserving/data_plane/v2_protocol/ and Triton's binary extension.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from themisto.errors import Failed, Invalid, NotFound, Refused, Unauthenticated, Unavailable
from themisto.serving.frame import NUMPY, Tensors
from themisto.serving.models import Column

if TYPE_CHECKING:
    import httpx

    from themisto.client import ControlPlane

__all__ = ["Answer", "Gateway", "decode", "encode"]

_LENGTH = "Inference-Header-Content-Length"
_TIMEOUT_S = 10.0
_CONNECTIONS = 16


class Answer(NamedTuple):
    """Outputs by name, the release that gave them, `credit@7`, how it stood in (earlier, rule, default)."""

    outputs: Tensors
    release: str
    fallback: str = ""


class Gateway:
    """Asks endpoints, with the caller's ten-minute token; one that has expired is renewed once."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        return httpx.Client(
            base_url=self._control.discovery.gateway.http.rstrip("/"),
            headers={"User-Agent": "themisto"},
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            timeout=httpx.Timeout(_TIMEOUT_S, connect=3.0),
        )

    def infer(
        self,
        endpoint: str,
        columns: Sequence[Column],
        tensors: Tensors,
        *,
        key: str = "",
        timeout_s: float | None = None,
        traceparent: str = "",
    ) -> Answer:
        """One request. `key` decides which release answers: the same key, the same release.

        traceparent: the W3C header of the trace that the request is part of.

        Raises NotFound (no such endpoint), Invalid (the model's complaint), Refused, Unavailable (gateway
        down, overload, too many requests).
        """
        body, headers = encode(columns, tensors)
        if key:
            headers["themisto-key"] = key
        if traceparent:
            headers["traceparent"] = traceparent
        response = self._send(endpoint, body, headers, timeout_s or _TIMEOUT_S)
        if response.status_code == 401:
            response = self._send(endpoint, body, headers, timeout_s or _TIMEOUT_S, fresh=True)
        if response.status_code >= 400:
            raise _error_in(endpoint, response)
        length = response.headers.get(_LENGTH)
        try:
            outputs = decode(response.content, int(length) if length else None)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise Failed(f"The gateway's answer for '{endpoint}' cannot be read: {error}.") from error
        return Answer(outputs, response.headers.get("x-release", ""), response.headers.get("x-fallback", ""))

    def _send(
        self, endpoint: str, body: bytes, headers: Mapping[str, str], timeout_s: float, *, fresh: bool = False
    ) -> httpx.Response:
        import httpx

        token = self._control.gateway_token(fresh=fresh)
        try:
            return self._http.post(
                f"/v2/models/{endpoint}/infer",
                content=body,
                headers={**headers, "Authorization": f"Bearer {token}"},
                timeout=httpx.Timeout(timeout_s, connect=min(3.0, timeout_s)),
            )
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"'{endpoint}' did not answer within {timeout_s:g} s.", "Send fewer rows, or raise timeout_s."
            ) from error
        except httpx.TransportError as error:
            raise Unavailable("The gateway cannot be reached.", "Run the same command again in a moment.") from error


def encode(columns: Sequence[Column], tensors: Tensors) -> tuple[bytes, dict[str, str]]:
    """Request body and headers: a JSON header, then each tensor's bytes; outputs are asked for as bytes, too."""
    inputs, blobs = [], []
    for column in columns:
        array = tensors[column.name]
        blob = _bytes(array) if column.dtype == "BYTES" else np.ascontiguousarray(array, NUMPY[column.dtype]).tobytes()
        inputs.append(
            {
                "name": column.name,
                "datatype": column.dtype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(blob)},
            }
        )
        blobs.append(blob)
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(head))}
    return b"".join([head, *blobs]), headers


def decode(body: bytes, header_length: int | None) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs by name. Raises ValueError, KeyError, TypeError or struct.error for what is no answer."""
    end = len(body) if header_length is None else header_length
    at, found = end, {}
    for output in json.loads(body[:end])["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is None:
            flat: Any = np.array(output["data"], dtype=NUMPY[output["datatype"]])
        else:
            flat = _array(body[at : at + size], output["datatype"])
            at += size
        found[output["name"]] = flat.reshape(output["shape"])
    return found


def _bytes(array: np.ndarray[Any, Any]) -> bytes:
    """BYTES: each string's length, little-endian, before its UTF-8."""
    parts = []
    for value in array.reshape(-1):
        raw = value if isinstance(value, bytes) else str(value).encode()
        parts += [struct.pack("<I", len(raw)), raw]
    return b"".join(parts)


def _array(blob: bytes, datatype: str) -> np.ndarray[Any, Any]:
    if datatype != "BYTES":
        return np.frombuffer(blob, NUMPY[datatype]).copy()
    values, at = [], 0
    while at < len(blob):
        (size,) = struct.unpack_from("<I", blob, at)
        values.append(blob[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(values, dtype=object)


def _error_in(endpoint: str, response: httpx.Response) -> Exception:
    status, cause = response.status_code, _cause(response)
    again = "Run the same command again in a moment."
    if status == 401:
        return Unauthenticated("The gateway does not accept your token.", "Log in to the workbench again.")
    if status == 403:
        return Refused(f"You may not ask '{endpoint}'.", "It belongs to another group, or you lack the scope infer.")
    if status == 404:
        return NotFound(f"No endpoint '{endpoint}' answers.", "%deploy status shows those that do.")
    if status == 429:
        return Unavailable("Too many requests: the gateway's limit for one caller is reached.", again)
    if status >= 500 and status != 500:
        return Unavailable(f"'{endpoint}' does not answer now (HTTP {status}).", again)
    return Invalid(f"'{endpoint}' refuses the request: {cause}", "See its columns: %deploy status " + endpoint)


def _cause(response: httpx.Response) -> str:
    try:
        answer = response.json()
        text = str(answer.get("error") or answer.get("detail") or answer)
    except (ValueError, AttributeError):
        text = response.text.strip() or f"HTTP {response.status_code}"
    return " ".join(text.split())[:500]
