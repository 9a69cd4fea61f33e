"""What of MLflow is open at all: tracking, models, artifacts and the pages that show them. The rest stays shut.

MLflow also serves an LLM gateway, webhooks, an assistant, jobs, users and roles; they would reach
other machines or rule over identities, which the hub does here. A path that is not listed is refused.
"""

from __future__ import annotations

import re

__all__ = ["HEALTH", "is_open"]

HEALTH = "/health"
_API2 = r"/(?:ajax-)?api/2\.0"
_API3 = r"/(?:ajax-)?api/3\.0"
_NAME = r"[^/\\\x00-\x1f]+"
_PATH = r"[^\\\x00-\x1f]+"
_OPEN: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (methods, re.compile(pattern))
    for methods, pattern in (
        ("GET", r"/"),
        ("GET", r"/version"),
        ("GET", rf"/static-files/{_PATH}"),
        ("GET", r"/(?:model-versions/)?get-artifact"),
        ("GET POST", r"/graphql"),
        ("GET POST", rf"{_API2}/mlflow/experiments/[a-z-]+"),
        ("GET POST", rf"{_API2}/mlflow/runs/(?!create-promptlab-run$)[a-z-]+"),
        ("GET", rf"{_API2}/mlflow/metrics/[a-z-]+"),
        ("GET", rf"{_API2}/mlflow/artifacts/list"),
        ("GET POST PATCH DELETE", rf"{_API2}/mlflow/(?:registered-models|model-versions)/[a-z-]+"),
        ("POST", rf"{_API2}/mlflow/logged-models"),
        ("GET POST PATCH DELETE", rf"{_API2}/mlflow/logged-models/{_NAME}(?:/(?:params|tags|tags/{_NAME}))?"),
        ("GET", rf"{_API2}/mlflow/logged-models/{_NAME}/artifacts/(?:directories|files)"),
        ("GET", rf"{_API2}/mlflow-artifacts/artifacts"),
        ("GET PUT DELETE", rf"{_API2}/mlflow-artifacts/artifacts/{_PATH}"),
        ("POST", rf"{_API2}/mlflow-artifacts/mpu/(?:create|complete|abort)/{_PATH}"),
        ("GET POST PATCH DELETE", rf"(?:{_API2}|{_API3})/mlflow/traces(?:/{_PATH})?"),
        ("GET", rf"{_API2}/mlflow/get-trace-artifact"),
        ("GET", rf"{_API3}/mlflow/get-trace-artifact"),
        ("GET", rf"{_API3}/mlflow/(?:server-info|ui-telemetry)"),  # the latter says that it is off
        ("GET", rf"{_API3}/mlflow/workspaces(?:/{_NAME})?"),
        ("GET", rf"(?:{_API2}|{_API3})/mlflow/users/current(?:/permissions)?"),
    )
)


def is_open(method: str, path: str) -> bool:
    """Whether `method path` (below the prefix, percent-decoded) is one that people may call.

    >>> is_open("POST", "/api/2.0/mlflow/runs/create"), is_open("POST", "/api/2.0/mlflow/webhooks")
    (True, False)
    """
    if "//" in path or "/../" in f"{path}/":
        return False
    method = "GET" if method == "HEAD" else method
    return any(method in methods.split() and pattern.fullmatch(path) for methods, pattern in _OPEN)
