"""Who may do what at the hub: custom scopes of the workbench, granted to groups; what servers and services may."""

from __future__ import annotations

from typing import Any

from themisto_hub.settings import Deployment

__all__ = ["CONTROL_SCOPES", "CUSTOM_SCOPES", "SERVER_SCOPES", "TRACKING_SCOPES", "group_roles"]

_PREFIX = "custom:themisto:"
_MEANING = {
    "deploy": "Release models and move their traffic",
    "approve": "Approve or refuse releases for prod, on the review page",
    "infer": "Ask endpoints for predictions",
    "features:read": "Read features",
    "features:write": "Define and write features",
    "schedule": "Schedule notebooks",
    "audit": "Read and verify the audit chain",
    "admin": "Run the platform",
}
CUSTOM_SCOPES = {f"{_PREFIX}{name}": {"description": f"{words}."} for name, words in _MEANING.items()}

_MAKERS = ("deploy", "infer", "features:read", "features:write", "schedule")
_APPROVERS = ("approve", "audit", "infer", "features:read", "schedule")
_SERVICES = ("access:services!service=themisto", "access:services!service=tracking")

# Runs the platform; does not enter other people's servers and makes no tokens in their name:
# who can act as the author could approve as herself.
_OPERATORS = (
    "admin-ui",
    "list:users",
    "read:users",
    "delete:users",
    "list:groups",
    "read:groups",
    "servers",
    "read:hub",
    "read:metrics",
)

# What a server's own token, and so every kernel, may at most: never approve, never admin.
SERVER_SCOPES = (
    "users:activity!user",
    "access:servers!server",
    *(f"{_PREFIX}{name}" for name in _MEANING if name not in ("approve", "admin")),
)

# Starts and stops servers, knows people and groups; enters no server.
CONTROL_SCOPES = ("list:users", "read:users", "list:groups", "read:groups", "servers")
TRACKING_SCOPES = ("read:users", "read:groups")


def group_roles(settings: Deployment) -> list[dict[str, Any]]:
    """One role a group that may log in: makers, approvers, operators, or several of them."""
    roles = []
    for group in sorted(settings.allowed_groups | settings.approver_groups | settings.admin_groups):
        custom: set[str] = set()
        more: set[str] = set(_SERVICES)
        if group in settings.approver_groups:
            custom |= set(_APPROVERS)
        if group in settings.admin_groups:
            custom |= set(_MEANING)
            more |= set(_OPERATORS)
        if not custom:
            custom |= set(_MAKERS)
        scopes = sorted(more | {f"{_PREFIX}{name}" for name in custom})
        roles.append({"name": f"themisto-group-{group}", "groups": [group], "scopes": scopes})
    return roles
