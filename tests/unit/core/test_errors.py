"""Problem documents and our errors are two faces of one thing."""

import pytest

from themisto import errors
from themisto.errors import ThemistoError, error_for


@pytest.mark.parametrize(
    "kind", [getattr(errors, n) for n in errors.__all__ if n not in ("ThemistoError", "did_you_mean", "error_for")]
)
def test_every_error_survives_the_wire(kind):
    there = kind("What happened.", "What to do.")
    problem = {"type": f"urn:themisto:{there.slug}", "detail": there.detail, "remedy": there.remedy}
    back = error_for(there.status, problem)
    assert type(back) is kind
    assert str(back) == "What happened. What to do."


def test_unknown_problem_keeps_its_status():
    assert isinstance(error_for(404, {}), errors.NotFound)
    assert isinstance(error_for(418, {"detail": "teapot"}), ThemistoError)
