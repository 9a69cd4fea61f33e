"""Hostile requests to every route of the control plane, made by schemathesis from the API's own document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis import Case, CheckContext, Response
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.parameters import ParameterLocation
from tests.security.conftest import MEMBER, NOBODY, STRANGER, Plane

from themisto_hub.control.app import PREFIX

API = f"{PREFIX}/api/v1"
DOCUMENT = Path(__file__).parents[2] / "lab_extension" / "src" / "api" / "openapi.json"
FEW = hypothesis.settings(max_examples=3, derandomize=True, database=None, deadline=None)
"""Besides these come the document's boundaries, one case each: too long, absent, another type, another method."""

load_all_checks()
NOT_ASKED = {
    # The document says which bodies are well-formed, not which are right: a digest of nothing, another's group.
    "": ("positive_data_acceptance",),
    f"{API}/runs": ("not_a_server_error",),  # no tracking server here: 503, and that is right
    f"{API}/endpoints/{{name}}/predictions": ("negative_data_rejection",),  # a time may be seconds since 1970, too
}
INSIDE = re.compile(rb'Traceback \(|File \\?"|site-packages|\.py\b|sqlite|sqlalchemy|pydantic|/tmp/| object at 0x')

schema = schemathesis.openapi.from_path(DOCUMENT).exclude(path=f"{API}/events")  # it has no end to wait for
schema.config.generation.allow_extra_parameters = False  # unknown query arguments are let be, as everywhere


@schemathesis.serializer("application/vnd.apache.parquet")
def not_parquet(_: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_the_document_is_the_one_that_is_served(plane: Plane) -> None:
    assert json.loads(DOCUMENT.read_text()) == plane.http.get(f"{plane.url}{PREFIX}/openapi.json").json()


@schema.parametrize()
@FEW
def test_hostile_requests_are_answered_as_documented(case: Case, plane: Plane, session: requests.Session) -> None:
    meet_something(case, plane)
    left_out = [CHECKS.get_one(name) for name in (*NOT_ASKED[""], *NOT_ASKED.get(case.path, ()))]
    # Who sends what is wrong in itself learns that; who may not ask at all is told so of what is right.
    wrong = case.meta is not None and case.meta.generation.mode.is_negative
    for headers in (MEMBER,) if wrong else (MEMBER, STRANGER, NOBODY):
        case.call_and_validate(
            base_url=plane.url,
            session=session,
            headers=headers,
            additional_checks=[says_what_is_wrong, keeps_its_inside],
            excluded_checks=left_out,
        )


def meet_something(case: Case, plane: Plane) -> None:
    """Names that could be right become names of what is there: more than "not found" is asked."""
    if case.meta is None or not case.meta.is_negative_at(ParameterLocation.PATH):
        for name in case.path_parameters or {}:
            case.path_parameters[name] = plane.seed.get(name, case.path_parameters[name])


def says_what_is_wrong(_: CheckContext, response: Response, __: Case) -> None:
    """Every error is an RFC 9457 problem document with a sentence on what is wrong and one on what to do."""
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    assert response.headers["content-type"] == ["application/problem+json"]
    body = response.json()
    assert body["status"] == response.status_code
    assert body["detail"].strip(), body
    assert body["remedy"].strip(), body


def keeps_its_inside(_: CheckContext, response: Response, __: Case) -> None:
    """No traceback, path or library in a body."""
    assert INSIDE.search(response.content) is None, response.content
