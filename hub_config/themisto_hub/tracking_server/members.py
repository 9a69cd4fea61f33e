"""Workspaces and who belongs to them: MLflow's own permissions, kept as the hub's groups say."""

from __future__ import annotations

import logging
import secrets
import threading

from flask import Response
from werkzeug.datastructures import Authorization

from themisto_hub.tracking_server.identity import Person, current_person

__all__ = ["Members", "authorize"]

_log = logging.getLogger(__name__)
_MEMBER, _ADMIN = "members", "admins"
_GRANTS = {
    _MEMBER: {"workspace": "USE", "experiment": "EDIT", "registered_model": "EDIT", "prompt": "EDIT"},
    _ADMIN: {"workspace": "MANAGE"},
}
"""MLflow's roles, the same in each workspace. USE lets people in and create; what a colleague made may be
read and added to; only its maker (whom MLflow lets manage it) and admins may delete it."""


def authorize() -> Authorization | Response:
    """MLflow's `authorization_function`: whom the door let in, or 401."""
    person = current_person.get()
    if person is None:
        return Response("Only the hub's people are let in here.", status=401)
    return Authorization("basic", {"username": person.name, "password": ""})


class Members:
    """Makes each person's user, her groups' workspaces and her permissions, when she comes or they change.

    A group is a workspace of the same name. Members may use it, admins manage all of them; who has
    left a group loses it with the next answer of the hub.
    """

    def __init__(self, admin_groups: frozenset[str]) -> None:
        self._admin_groups = admin_groups
        self._lock = threading.Lock()
        self._made = 0
        self._admitted: dict[str, tuple[Person, int]] = {}

    def knows(self, person: Person) -> bool:
        """Whether MLflow's permissions say already what the hub says of her (admins: of every workspace)."""
        known, made = self._admitted.get(person.name, (None, 0))
        return known == person and (made == self._made or not self._is_admin(person))

    def may_enter(self, person: Person, workspace: str) -> bool:
        return workspace in person.groups or self._is_admin(person)

    def _is_admin(self, person: Person) -> bool:
        return not self._admin_groups.isdisjoint(person.groups)

    def admit(self, person: Person) -> None:
        """Bring MLflow's users, workspaces and permissions in line with `person` (blocking: SQL)."""
        with self._lock:
            existing = self._workspaces()
            for group in person.groups:
                if group not in existing and self._create(group):
                    existing.add(group)
                    self._made += 1
            self._permit(person, existing)
            self._admitted[person.name] = (person, self._made)

    @staticmethod
    def _workspaces() -> set[str]:
        from mlflow.server.workspace_helpers import _get_workspace_store

        return {w.name for w in _get_workspace_store().list_workspaces()} - {"default"}

    @staticmethod
    def _create(group: str) -> bool:
        from mlflow.entities import Workspace
        from mlflow.exceptions import MlflowException
        from mlflow.server.workspace_helpers import _get_workspace_store

        try:
            _get_workspace_store().create_workspace(Workspace(name=group, description=f"Runs and models of {group}"))
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                return True
            _log.warning("The group %r cannot be a workspace: %s", group, error.message)
            return False
        _log.info("Made the workspace %s", group)
        return True

    def _permit(self, person: Person, existing: set[str]) -> None:
        from mlflow.server.auth import store

        if not store.has_user(person.name):
            # Nobody ever logs in with it: our authorization function knows no passwords.
            store.create_user(person.name, secrets.token_urlsafe(48))
        user = store.get_user(person.name).id
        wanted = dict.fromkeys(existing, _ADMIN) if self._is_admin(person) else {}
        if not wanted:
            wanted = {group: _MEMBER for group in person.groups if group in existing}
        for workspace in store.list_user_present_workspaces(user) - wanted.keys():
            for role in store.list_user_roles_for_workspace(user, workspace):
                store.unassign_role_from_user(user, role.id)
            _log.info("%s has left the workspace %s", person.name, workspace)
        for workspace, name in wanted.items():
            self._assign(user, workspace, name)

    @staticmethod
    def _assign(user: int, workspace: str, name: str) -> None:
        """Give the user the role of that name, and no other of ours, in the workspace."""
        from mlflow.server.auth import store

        held = {role.name: role.id for role in store.list_user_roles_for_workspace(user, workspace)}
        if name not in held:
            store.assign_role_to_user(user, _role(workspace, name))
        for other in _GRANTS.keys() & held.keys() - {name}:
            store.unassign_role_from_user(user, held[other])


def _role(workspace: str, name: str) -> int:
    """The id of our role in the workspace, made with its grants when it is not there (or only half) yet."""
    from mlflow.exceptions import MlflowException
    from mlflow.server.auth import store

    try:
        role = store.get_role_by_name(workspace, name)
    except MlflowException:
        role = store.create_role(name, workspace, "kept by themisto")
    granted = {p.resource_type for p in store.list_role_permissions(role.id)}
    for kind, permission in _GRANTS[name].items():
        if kind not in granted:
            store.add_role_permission(role.id, kind, "*", permission)
    found: int = role.id
    return found
