"""The transformer's HTTP side: predictions by entity key, feature reads, rows from the control plane."""

from __future__ import annotations

import hmac
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from themisto.errors import Invalid, Refused
from themisto.spans import span
from themisto_hub.gateway.default_answers import DefaultAnswers, asked_for
from themisto_hub.gateway.feature_callers import Callers, GatewayCaller
from themisto_hub.gateway.feature_entities import pack, unpack
from themisto_hub.gateway.feature_lookup import Filled, Lookup
from themisto_hub.gateway.feature_problems import as_oip, as_problem
from themisto_hub.gateway.feature_read_http import body_of, milliseconds
from themisto_hub.gateway.feature_reads import FeatureReads
from themisto_hub.gateway.feature_tritons import Tritons
from themisto_hub.model_server.infer_key import INFER_HEADER

__all__ = ["create_app"]

_LENGTH = "inference-header-content-length"
_MAX_BODY = 64 * 2**20
_TIMEOUT_S = 30.0


def create_app(
    reads: FeatureReads,
    callers: Callers,
    lookup: Lookup,
    tritons: Tritons,
    defaults: DefaultAnswers,
    *,
    read_api: Route,
    key: str,
) -> Starlette:
    """read_api: the route of feature reads. key: what the control plane must show to write rows; empty refuses all."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def write(request: Request) -> Response:
        _only_control(request)
        lines = await body_of(request, _MAX_BODY)
        return JSONResponse({"rows": await reads.write(lines, new="new" in request.query_params)})

    async def erase(request: Request) -> Response:
        _only_control(request)
        return JSONResponse({"keys": await reads.erase(await body_of(request, _MAX_BODY))})

    def _only_control(request: Request) -> None:
        given = request.headers.get("x-themisto-key", "")
        if not key or not hmac.compare_digest(given.encode(), key.encode()):
            raise Refused("Only the control plane writes features.", "Use %features materialize.")

    async def infer(request: Request) -> Response:
        if asked_for(request.headers):
            return await _default(request, defaults)
        caller = callers.of(request.headers.get("authorization", ""))
        with span("features.infer", kind="server", parent=request.headers.get("traceparent")):
            return await _infer(request, caller, lookup, tritons)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            read_api,
            Route("/internal/v1/rows", as_problem(write), methods=["POST"]),
            Route("/internal/v1/erase", as_problem(erase), methods=["POST"]),
            Route("/v2/models/{model}/infer", as_oip(infer), methods=["POST"]),
            Route("/v2/models/{model}/versions/{version}/infer", as_oip(infer), methods=["POST"]),
        ]
    )


async def _infer(request: Request, caller: GatewayCaller, lookup: Lookup, tritons: Tritons) -> Response:
    name, release, spec = lookup.release(request.headers.get("x-release", ""), caller)
    body = await body_of(request, _MAX_BODY)
    header, parts = _split(body, request.headers.get(_LENGTH))
    keys = set(spec.brought)
    columns = {i["name"]: _values(i, parts.get(i["name"])) for i in header["inputs"] if i["name"] in keys}
    model_inputs = {t.name for t in await lookup.inputs(name, release)}
    kept = [i for i in header["inputs"] if i["name"] not in keys or i["name"] in model_inputs]
    left_s = _left_s(request)
    filled = await lookup.fill(name, release, spec, columns, frozenset(i["name"] for i in kept), within_s=left_s)
    content, length = _join(header, kept, parts, filled)
    headers = {_LENGTH: str(length), "content-type": "application/octet-stream"}
    answer = await tritons.post(release.http, f"/v2/models/{name}/infer", content, headers, timeout_s=left_s)
    passed = {h: v for h, v in answer.headers.items() if h in (_LENGTH, "content-type")}
    return Response(answer.body, answer.status, headers=passed | filled.headers)


def _left_s(request: Request) -> float:
    """What Envoy says is left of the caller's deadline, seconds."""
    said = milliseconds(request.headers.get("x-envoy-expected-rq-timeout-ms", ""))
    return _TIMEOUT_S if said is None else min(said, _TIMEOUT_S)


async def _default(request: Request, defaults: DefaultAnswers) -> Response:
    header, _ = _split(await body_of(request, _MAX_BODY), request.headers.get(_LENGTH))
    shown = request.headers.get(INFER_HEADER, "")
    body, length = defaults.http(request.headers.get("x-release", ""), shown, header)
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={_LENGTH: str(length), "content-type": "application/octet-stream"})


def _split(body: bytes, length: str | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON header and, by name, the binary tensors behind it."""
    try:
        end = int(length) if length else len(body)
        header = json.loads(body[:end])
        at, parts = end, {}
        if not isinstance(header["inputs"], list):
            raise ValueError("its inputs are no list")
        for tensor in header["inputs"]:
            if not isinstance(tensor["name"], str):
                raise ValueError("an input has no name")
            size = (tensor.get("parameters") or {}).get("binary_data_size")
            if size is not None:
                if not isinstance(size, int) or size < 0:
                    raise ValueError(f"{size!r} is no size")
                parts[tensor["name"]] = body[at : at + size]
                at += size
        if at != len(body):
            raise ValueError("its binary tensors are cut")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid(f"The request cannot be read: {error}.", "Send it as the Open Inference Protocol says.") from None
    return header, parts


def _values(tensor: dict[str, Any], raw: bytes | None) -> list[Any]:
    if raw is not None:
        return unpack(str(tensor.get("datatype")), raw)
    return _flat(tensor.get("data") or [])


def _flat(data: list[Any]) -> list[Any]:
    return [v for item in data for v in (_flat(item) if isinstance(item, list) else [item])]


def _join(
    header: dict[str, Any], kept: list[dict[str, Any]], parts: dict[str, bytes], filled: Filled
) -> tuple[bytes, int]:
    """The full request: what the caller gave as it came, the looked-up features as binary tensors."""
    inputs, blobs = list(kept), [parts[i["name"]] for i in kept if i["name"] in parts]
    for tensor, values in filled.tensors:
        raw = pack(tensor, values)
        shape = tensor.of(filled.rows)
        size = {"binary_data_size": len(raw)}
        inputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "parameters": size})
        blobs.append(raw)
    head = json.dumps(header | {"inputs": inputs}).encode()
    return b"".join([head, *blobs]), len(head)
