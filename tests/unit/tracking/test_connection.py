"""Which errors mean that the server is away, and what a person is told."""

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from themisto.errors import Conflict, NotFound, Refused, ThemistoError, Unavailable
from themisto.tracking.connection import is_outage, mlflow_errors

LOST = MlflowException("API request to http://x/api failed with exception HTTPConnectionPool: refused")


def answered(status, body="<html>"):
    return MlflowException(
        f"API request to endpoint /api/x failed with error code {status} != 200. Response body: '{body}'"
    )


def rest(code):
    return RestException({"error_code": code, "message": "why"})


def http(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (LOST, True),
        (MlflowException("API request to http://x failed with timeout exception slow. To increase"), True),
        (answered(503), True),
        (answered(502), True),
        (answered(404), True),  # the proxy, while its target is not there
        (answered(401), True),
        (answered(403, "Permission denied"), False),
        (rest("TEMPORARILY_UNAVAILABLE"), True),
        (rest("UNAUTHENTICATED"), True),
        (rest("PERMISSION_DENIED"), False),
        (rest("RESOURCE_DOES_NOT_EXIST"), False),
        (rest("INVALID_PARAMETER_VALUE"), False),
        (http(503), True),
        (http(404), False),
        (requests.ConnectionError(), True),
        (requests.Timeout(), True),
        (ConnectionResetError(), True),
        (MlflowException("Run 'x' not found"), False),
        (ValueError("API request to nobody"), False),
    ],
)
def test_outages_are_told_from_refusals(error, away):
    assert is_outage(error) is away


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LOST, Unavailable),
        (answered(403, "Permission denied"), Refused),
        (rest("RESOURCE_DOES_NOT_EXIST"), NotFound),
        (rest("RESOURCE_ALREADY_EXISTS"), Conflict),
        (rest("PERMISSION_DENIED"), Refused),
    ],
)
def test_mlflows_errors_become_ours_in_one_line(error, kind):
    with pytest.raises(ThemistoError) as told, mlflow_errors():
        raise error
    assert type(told.value) is kind
    assert "\n" not in str(told.value)
    assert "<html>" not in str(told.value)
