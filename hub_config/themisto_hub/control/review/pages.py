"""Pages: what a person sees, rendered with autoescape and sent with headers that allow nothing else."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from themisto.errors import ThemistoError
from themisto.serving.rollout import Rollout
from themisto_hub.control.serving.approvals import Login, Review
from themisto_hub.control.serving.diff import Diff

__all__ = ["decided", "problem", "review", "stylesheet", "waiting"]

_CSP = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # not no-referrer: that would make the form's Origin "null"
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def waiting(login: Login, reviews: list[Review]) -> Response:
    """The list of what waits for a decision."""
    return _page("waiting.html", login=login, reviews=reviews)


def review(login: Login, review: Review, diff: Diff, ticket: str) -> Response:
    """One rollout, its difference to stable, and the form that decides."""
    sections = {
        "Quality gates": diff.gates,
        "Metrics": diff.metrics,
        "Data": diff.data,
        "Features and inputs": diff.features,
        "Parameters": diff.parameters,
        "Model": diff.model,
        "Serving": diff.serving,
        "Environment": diff.environment,
    }
    return _page("review.html", login=login, review=review, diff=diff, sections=sections, ticket=ticket)


def decided(rollout: Rollout) -> Response:
    """What was decided, and what happens now."""
    return _page("decided.html", rollout=rollout, approval=rollout.approvals[-1])


def problem(error: ThemistoError) -> Response:
    """What is wrong, and what to do."""
    return _page("problem.html", status=error.status, error=error)


async def stylesheet(_: Request) -> Response:
    """The one stylesheet, from the page's own origin."""
    css = (resources.files("themisto_hub.control.review") / "static" / "review.css").read_text()
    return Response(css, media_type="text/css", headers={"X-Content-Type-Options": "nosniff"})


def _page(template: str, status: int = 200, **values: Any) -> Response:
    return HTMLResponse(_templates().get_template(template).render(**values), status, headers=_HEADERS)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("themisto_hub.control.review", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC"
    return environment
