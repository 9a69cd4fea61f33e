"""One Triton, asked over HTTP: load, unload, list, infer. Where httpx errors and Triton's become ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from themisto.errors import Failed, Invalid, NotFound, Unavailable
from themisto.serving.models import Signature
from themisto_hub.model_server.infer_key import INFER_HEADER
from themisto_hub.model_server.server import KEY_HEADER

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TritonClient"]

_LOAD_TIMEOUT_S = 120.0
_TIMEOUT_S = 10.0
_HEADER_LENGTH = "Inference-Header-Content-Length"


class TritonClient:
    """A Triton at `http_url`: `http://127.0.0.1:8012`, or `unix:/path/of/a/socket` for a group's own.

    `key` opens the load API, `infer_key` what a tier's Triton keeps for the gateway.
    Every method raises Unavailable when nobody answers, Failed with Triton's cause.
    """

    def __init__(self, http_url: str, key: str, infer_key: str = "") -> None:
        socket = http_url.removeprefix("unix:").replace("//", "/") if http_url.startswith("unix:") else None
        self.url = http_url
        self._http = httpx.Client(
            base_url="http://triton" if socket else http_url,
            transport=httpx.HTTPTransport(uds=socket, retries=0),
            headers={KEY_HEADER: key} | ({INFER_HEADER: infer_key} if infer_key else {}),
            timeout=httpx.Timeout(_TIMEOUT_S, connect=2.0),
        )

    def ready(self) -> bool:
        """True if the server answers (says nothing about models: only an inference does)."""
        try:
            return self._http.get("/v2/health/ready", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False

    def index(self) -> dict[str, str]:
        """The models that are loaded, by name, with Triton's word for their state: READY.

        From the statistics: Triton's own index leaves out what was loaded from memory. A model whose
        backend process was killed is in it too; only an inference tells.
        """
        answer = self._json("GET", "/v2/models/stats", None)
        return {model["name"]: "READY" for model in answer["model_stats"]}

    def load(self, name: str, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Load a model from memory; one of that name is replaced, and kept if this fails.

        The files' digest goes into the configuration: Triton answers "loaded" and does nothing when
        only the files of a model differ. The same model once more is therefore no work.
        """
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(f"{path}\0{len(files[path])}\0".encode() + files[path])
        told = {**config.get("parameters", {}), "files_sha256": {"string_value": digest.hexdigest()}}
        parameters = {"config": json.dumps({**config, "parameters": told})}
        parameters |= {f"file:{path}": base64.b64encode(data).decode() for path, data in files.items()}
        try:
            self._json(
                "POST", f"/v2/repository/models/{name}/load", {"parameters": parameters}, timeout_s=_LOAD_TIMEOUT_S
            )
        except Failed as error:
            if "protobuf" not in error.detail.lower():
                raise
            # Triton does not look whether its disk took the files: a full one shows as a model cut short.
            raise Failed(
                f"{error.detail} If it is a model, the model server's disk is full.", "Tell the platform team."
            ) from error

    def unload(self, name: str) -> None:
        """Unload a model and, after it, its parts (`credit--7.pre`); one that is not there is no error."""
        for one in [name, *(other for other in self.index() if other.startswith(f"{name}."))]:
            self._json("POST", f"/v2/repository/models/{one}/unload", {}, timeout_s=_LOAD_TIMEOUT_S)

    def infer(self, name: str, inputs: Mapping[str, list[Any]], signature: Signature) -> dict[str, list[Any]]:
        """A real inference over the wire: column name to values, row by row, both ways.

        A value None is NaN in a float column and "" in a text one. Raises Invalid for inputs that do not fit.
        """
        from tritonclient.http import InferenceServerClient, InferInput, InferResult
        from tritonclient.utils import InferenceServerException

        tensors = []
        for column in signature.inputs:
            array = _array(column.name, column.dtype, column.shape or (1,), inputs)
            tensor = InferInput(column.name, list(array.shape), column.dtype)
            tensors.append(tensor.set_data_from_numpy(array))
        body, header_length = InferenceServerClient.generate_request_body(tensors)
        headers = {"content-type": "application/octet-stream"}
        if header_length is not None:
            headers[_HEADER_LENGTH] = str(header_length)
        response = self._send("POST", f"/v2/models/{name}/infer", content=body, headers=headers)
        length = response.headers.get(_HEADER_LENGTH)
        try:
            result = InferResult.from_response_body(response.content, header_length=int(length) if length else None)
        except (InferenceServerException, ValueError) as error:
            raise Failed(f"{name} answered with something that is no inference: {error}") from None
        return {c.name: _values(name, c.name, c.dtype, result.as_numpy(c.name)) for c in signature.outputs}

    def close(self) -> None:
        self._http.close()

    def _json(self, method: str, path: str, body: Any, *, timeout_s: float = _TIMEOUT_S) -> Any:
        response = self._send(method, path, json=body, timeout=timeout_s)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        with _mapped(self.url):
            response = self._http.request(method, path, **options)
        if response.status_code >= 400:
            raise _error_in(response)
        return response


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    remedy = "It is started again by itself; try again in a moment."
    try:
        yield
    except httpx.TimeoutException:
        raise Unavailable(f"The model server at {url} took too long.", remedy) from None
    except httpx.TransportError as error:
        raise Unavailable(f"The model server at {url} does not answer: {error}.", remedy) from None


def _error_in(response: httpx.Response) -> Failed | NotFound | Unavailable:
    try:
        cause = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        cause = response.text.strip()[:2000] or f"HTTP {response.status_code}"
    cause = re.sub(r"^\[request id: [^\]]*\] ", "", cause).partition("\n\nAt:\n")[0].rstrip(" ;\n")
    if response.status_code == 503:
        return Unavailable(f"The model server is not ready: {cause}", "Try again in a moment.")
    if response.status_code == 404 or "unknown model" in cause:
        return NotFound(cause)
    return Failed(f"Triton says: {cause}.")


def _array(name: str, dtype: str, shape: tuple[int, ...], inputs: Mapping[str, list[Any]]) -> np.ndarray[Any, Any]:
    import numpy as np

    if name not in inputs:
        raise Invalid(f"The input '{name}' is missing.", f"Given: {', '.join(sorted(inputs)) or 'nothing'}.")
    values = inputs[name]
    try:
        if dtype == "BYTES":
            array = np.array(values, dtype=object)
            flat = ["" if v is None else v if isinstance(v, bytes) else str(v) for v in array.reshape(-1)]
            array = np.array([v if isinstance(v, bytes) else v.encode() for v in flat], dtype=object)
        else:
            array = np.array(values, dtype=_numpy_type(dtype))
        return array.reshape((len(values), *shape))
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(f"The input '{name}' is no {dtype} of shape {list(shape)} a row: {error}.") from None


def _values(model: str, name: str, dtype: str, array: np.ndarray[Any, Any] | None) -> list[Any]:
    if array is None:
        raise Failed(f"{model} answered without '{name}'.", "Its signature and its model disagree: deploy it again.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.reshape(-1)
    if dtype == "BYTES":
        array = _decoded(array)
    values: list[Any] = array.tolist()
    return values


def _decoded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.array([v.decode() for v in array.reshape(-1)], dtype=object).reshape(array.shape)


def _numpy_type(dtype: str) -> Any:
    import numpy as np

    return {"BOOL": np.bool_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32, "FP64": np.float64}[dtype]
