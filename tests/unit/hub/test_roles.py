"""Who may do what at the hub, as a table."""

import pytest

from themisto_hub.roles import CONTROL_SCOPES, CUSTOM_SCOPES, SERVER_SCOPES, group_roles
from themisto_hub.settings import Deployment


def custom(scopes) -> set[str]:
    return {s.removeprefix("custom:themisto:") for s in scopes if s.startswith("custom:")}


@pytest.mark.parametrize(
    ("group", "may"),
    [
        ("data-science", {"deploy", "infer", "features:read", "features:write", "schedule"}),
        ("model-risk", {"approve", "audit", "infer", "features:read", "schedule"}),
        ("platform-admins", custom(CUSTOM_SCOPES)),
    ],
)
def test_groups_carry_these_scopes(group, may):
    role = next(r for r in group_roles(Deployment()) if r["groups"] == [group])
    assert custom(role["scopes"]) == may


def test_a_kernel_never_carries_approve_or_admin():
    assert custom(SERVER_SCOPES) == custom(CUSTOM_SCOPES) - {"approve", "admin"}


def test_no_group_may_enter_anothers_server_or_make_tokens_for_others():
    for role in group_roles(Deployment()):
        assert not {"access:servers", "tokens", "admin:users", "admin:servers", "users"} & set(role["scopes"])


def test_the_control_plane_may_not_enter_servers():
    assert not [scope for scope in CONTROL_SCOPES if scope.startswith(("access", "admin", "tokens"))]


def test_a_group_that_approves_and_administers_has_both():
    settings = Deployment(approver_groups={"all"}, admin_groups={"all"}, allowed_groups={"all", "makers"})
    roles = {role["groups"][0]: role["scopes"] for role in group_roles(settings)}
    assert custom(roles["all"]) == custom(CUSTOM_SCOPES)
    assert "deploy" in custom(roles["makers"])
