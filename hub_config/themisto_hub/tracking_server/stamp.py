"""Who owns what: the hub's name is written as owner on all that is made, whatever the client claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from themisto.errors import Invalid, Refused

__all__ = ["OWNER_TAG", "carries_claims", "stamped"]

OWNER_TAG = "mlflow.user"
_MADE = ("runs/create", "experiments/create", "registered-models/create", "model-versions/create", "logged-models")
_JSON_AREAS = ("/mlflow/experiments/", "/mlflow/runs/", "/mlflow/registered-models/", "/mlflow/model-versions/")
_LOGGED_MODELS = "/mlflow/logged-models"


def carries_claims(method: str, path: str) -> bool:
    """Whether the request's body could name an owner, and so must be read before MLflow does."""
    if method in ("GET", "HEAD"):
        return False
    return _LOGGED_MODELS in path or any(area in path for area in _JSON_AREAS)


def stamped(path: str, query: str, body: bytes, owner: str) -> bytes:
    """The request's JSON body with `owner` as owner of what it makes.

    Raises Refused where it would change the owner of what is there, or choose where artifacts lie;
    Invalid for a body that is not one JSON object (MLflow would also read doubly encoded ones).
    """
    claims = _object(body)
    if any(name in claims for name in ("artifact_location", "artifactLocation")):
        raise Refused("Where artifacts lie is not the client's choice.", "Leave artifact_location out.")
    kind = path.partition("/mlflow/")[2]
    if kind in _MADE:
        _take_ownership(claims, owner, is_run=kind == "runs/create")
    elif _touches_owner(kind, query, claims):
        raise Refused(f"The tag {OWNER_TAG} is the hub's to write.", "Use another tag.")
    return json.dumps(claims).encode() if body.strip() or kind in _MADE else body


def _object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        claims = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid("The request's body is not JSON.") from error
    if not isinstance(claims, dict):
        raise Invalid("The request's body is not a JSON object.")
    return claims


def _take_ownership(claims: dict[str, Any], owner: str, *, is_run: bool) -> None:
    others = [tag for tag in _tags(claims) if tag.get("key") != OWNER_TAG]
    claims["tags"] = [*others, {"key": OWNER_TAG, "value": owner}]
    if is_run:
        claims.pop("userId", None)
        claims["user_id"] = owner


def _touches_owner(kind: str, query: str, claims: Mapping[str, Any]) -> bool:
    named = [claims.get("key"), *parse_qs(query).get("key", ()), *(tag.get("key") for tag in _tags(claims))]
    return OWNER_TAG in named or kind.endswith(f"/tags/{OWNER_TAG}")


def _tags(claims: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    tags = claims.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, dict) for tag in tags):
        raise Invalid("tags is not a list of key and value.")
    return tags
