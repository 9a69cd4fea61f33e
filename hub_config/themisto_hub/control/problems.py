"""Where errors become RFC 9457 problem documents, as the API's document says: the one place in the control plane."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from themisto.errors import ThemistoError
from themisto.types import Model

__all__ = ["Problem", "document", "install", "problem"]

_MEDIA_TYPE = "application/problem+json"
_ASK = "See what there is: /services/themisto/openapi.json."
_log = logging.getLogger(__name__)


class Problem(Model):
    """What is wrong (`detail`), and what to do about it (`remedy`)."""

    type: str
    title: str
    status: int
    detail: str
    remedy: str


def problem(status: int, slug: str, detail: str, remedy: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """`application/problem+json` with `type`, `status`, `detail` and our `remedy`."""
    title = slug.replace("-", " ")
    body = Problem(type=f"urn:themisto:{slug}", title=title, status=status, detail=detail, remedy=remedy)
    return JSONResponse(body.model_dump(), status, media_type=_MEDIA_TYPE, headers=headers)


def document(openapi: dict[str, Any]) -> dict[str, Any]:
    """The API's document with the one shape of its errors, in place of FastAPI's own."""
    components = openapi["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["schemas"]["Problem"] = Problem.model_json_schema()
    shape = {"schema": {"$ref": "#/components/schemas/Problem"}}
    components["responses"] = {"Problem": {"description": "What is wrong", "content": {_MEDIA_TYPE: shape}}}
    for item in openapi["paths"].values():
        for operation in item.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {kind: {"$ref": "#/components/responses/Problem"} for kind in ("4XX", "5XX")}
    return openapi


def install(app: FastAPI) -> None:
    """Make `app` answer every error as a problem document."""

    @app.exception_handler(ThemistoError)
    def _ours(_: Request, error: ThemistoError) -> JSONResponse:
        return problem(error.status, error.slug, error.detail, error.remedy)

    @app.exception_handler(RequestValidationError)
    def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(str(p) for p in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors()[:5]]
        return problem(422, "invalid", "; ".join(parts) + ".", "Mend the named fields and send the request again.")

    @app.exception_handler(UnicodeEncodeError)
    def _half(_: Request, __: UnicodeEncodeError) -> JSONResponse:
        detail = "A text of the request holds half a character, which cannot be kept."
        return problem(422, "invalid", detail, "Send whole Unicode characters: no lone surrogate.")

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        slug = {404: "not-found"}.get(error.status_code, "invalid")
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the framework names one route's methods, RFC 9110 wants all of the address
            headers["Allow"] = ", ".join(_methods(app.openapi(), request.url.path))
        return problem(error.status_code, slug, f"{error.detail}.", _ASK, headers)

    @app.exception_handler(Exception)
    def _other(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s", request.method, request.url.path, exc_info=error)
        request_id = getattr(request.state, "request_id", "unknown")
        detail = "The control plane met an error of its own."
        return problem(500, "failed", detail, f"Nothing was changed. Tell the platform team: request {request_id}.")


def _methods(openapi: dict[str, Any], path: str) -> list[str]:
    items = [item for template, item in openapi["paths"].items() if compile_path(template)[0].match(path)]
    return sorted({method.upper() for item in items for method in item})
