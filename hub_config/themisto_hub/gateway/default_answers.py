"""Default answers: what a release has declared for when nothing answers, once for each row of the request.

Envoy asks for them when all else has failed, and only Envoy may: it shows a key. The answer is a whole one of
the Open Inference Protocol (https://kserve.github.io/website/latest/modelserving/data_plane/v2_protocol/).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from themisto.errors import Invalid, NotFound, Refused
from themisto.serving.models import Column
from themisto_hub.gateway.fallback import DefaultAnswer
from themisto_hub.gateway.feature_entities import Tensor, pack
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_table import FeatureTable

__all__ = ["DefaultAnswers", "asked_for"]

_MAX_ROWS = 100_000


def asked_for(headers: Mapping[str, str]) -> bool:
    """Whether Envoy asks for the declared default rather than for a prediction by entity key."""
    return headers.get("x-fallback") == "default"


class DefaultAnswers:
    """Makes them for the releases of the table. key: what must be shown; empty refuses all."""

    def __init__(self, table: Watched[FeatureTable], key: str) -> None:
        self._table = table
        self._key = key.encode()

    def http(self, release: str, shown: str, header: Any) -> tuple[bytes, int | None]:
        """The answer to a request with this JSON header: the body, and the length of its JSON part if not all is.

        Raises Refused (key), NotFound (no default declared), Invalid (no rows to be told).
        """
        default = self._of(release, shown)
        if not isinstance(header, dict):
            raise Invalid("The request is no object.", "Send it as the Open Inference Protocol says.")
        rows = _rows([(i or {}).get("shape") for i in _objects(header, "inputs")])
        wanted = {str(o.get("name")): o.get("parameters") or {} for o in _objects(header, "outputs", optional=True)}
        as_bytes = bool((header.get("parameters") or {}).get("binary_data_output"))
        outputs, blobs = [], []
        for column in _chosen(default.outputs, list(wanted)):
            told: dict[str, Any] = {"name": column.name, "datatype": column.dtype, "shape": [rows, *column.shape]}
            values = _flat(default.values[column.name]) * rows
            if wanted.get(column.name, {}).get("binary_data", as_bytes):
                blobs.append(pack(_tensor(column), values))
                told["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                told["data"] = values
            outputs.append(told)
        answer: dict[str, Any] = {"model_name": release, "model_version": "1", "outputs": outputs}
        if isinstance(header.get("id"), str):
            answer["id"] = header["id"]
        head = json.dumps(answer).encode()
        return b"".join([head, *blobs]), len(head) if blobs else None

    def grpc(self, release: str, shown: str, request: Any) -> Any:
        """The same for a ModelInferRequest, as a ModelInferResponse."""
        from tritonclient.grpc.service_pb2 import ModelInferResponse

        default = self._of(release, shown)
        rows = _rows([list(i.shape) for i in request.inputs])
        answer = ModelInferResponse(model_name=release, model_version="1", id=request.id)
        for column in _chosen(default.outputs, [o.name for o in request.outputs]):
            answer.outputs.add(name=column.name, datatype=column.dtype, shape=[rows, *column.shape])
            answer.raw_output_contents.append(pack(_tensor(column), _flat(default.values[column.name]) * rows))
        return answer

    def _of(self, release: str, shown: str) -> DefaultAnswer:
        if not self._key or not hmac.compare_digest(self._key, shown.encode()):
            raise Refused("Only the gateway asks for default answers.", "Ask the endpoint.")
        found = self._table.value.defaults.get(release)
        if found is None and self._table.refresh():
            found = self._table.value.defaults.get(release)
        if found is None:
            raise NotFound(f"{release} has declared no default answer.", "Deploy it with --default.")
        return found


def _objects(header: Mapping[str, Any], side: str, *, optional: bool = False) -> list[dict[str, Any]]:
    found = header.get(side)
    if found is None and optional:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Invalid(f"'{side}' of the request is no list of tensors.", "Send it as the Open Inference Protocol says.")
    return found


def _rows(shapes: Sequence[Any]) -> int:
    """The batch that all inputs share."""
    firsts = {shape[0] if isinstance(shape, list) and shape else None for shape in shapes}
    rows = firsts.pop() if len(firsts) == 1 else None
    if not isinstance(rows, int) or isinstance(rows, bool) or not 1 <= rows <= _MAX_ROWS:
        raise Invalid(
            "The inputs have no common number of rows.",
            f"Their shapes begin with it: 1 to {_MAX_ROWS:,}, the same for all.",
        )
    return rows


def _chosen(columns: Sequence[Column], wanted: Sequence[str]) -> list[Column]:
    known = {column.name: column for column in columns}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise Invalid(f"There is no output {', '.join(unknown)}.", f"There are: {', '.join(known)}.")
    return [known[name] for name in wanted] or list(columns)


def _tensor(column: Column) -> Tensor:
    return Tensor(name=column.name, datatype=column.dtype, shape=(-1, *column.shape))


def _flat(value: Any) -> list[Any]:
    return [v for item in value for v in _flat(item)] if isinstance(value, list) else [value]
