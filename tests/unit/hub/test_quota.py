"""Quota: which server would be one too many."""

import types

import pytest
from jupyterhub import orm
from tornado.web import HTTPError

from themisto_hub.quota import Quota


@pytest.fixture
def db():
    session = orm.new_session_factory("sqlite:///:memory:")()
    group = orm.Group(name="data-science")
    session.add_all([group, orm.User(name="scientist", groups=[group]), orm.User(name="colleague", groups=[group])])
    session.commit()
    return session


def asks(db, user: str, server: str):
    """What a spawner looks like to the quota."""
    person = orm.User.find(db, user)
    row = next((s for s in person.orm_spawners.values() if s.name == server), None) or orm.Spawner(
        user=person, name=server
    )
    db.add(row)
    db.commit()
    return types.SimpleNamespace(db=db, user=person, orm_spawner=row, is_job=server.startswith("job-"))


def runs(db, user: str, server: str, **options):
    row = asks(db, user, server).orm_spawner
    row.server = orm.Server()
    row.user_options = options
    db.commit()


def refused(quota: Quota, asked, group: str = "data-science") -> str:
    with pytest.raises(HTTPError) as raised:
        quota.check(asked, group)
    assert raised.value.status_code == 429
    return raised.value.jupyterhub_message


def test_one_server_too_many_is_refused_in_words(db):
    runs(db, "scientist", "a")
    runs(db, "scientist", "b")
    quota = Quota(servers_per_user=2)
    assert refused(quota, asks(db, "scientist", "")) == (
        "You have 2 servers running, and 2 are allowed. Stop one first."
    )
    quota.check(asks(db, "colleague", ""), "data-science")


def test_jobs_and_servers_are_counted_apart(db):
    runs(db, "scientist", "")
    runs(db, "scientist", "job-1")
    quota = Quota(servers_per_user=2, jobs_per_user=1)
    quota.check(asks(db, "scientist", "more"), "data-science")
    assert "1 jobs running" in refused(quota, asks(db, "scientist", "job-2"))


def test_the_server_that_starts_does_not_count_itself(db):
    runs(db, "scientist", "")
    Quota(servers_per_user=1).check(asks(db, "scientist", ""), "data-science")


def test_a_group_has_a_limit_over_all_its_people(db):
    runs(db, "colleague", "", group="data-science")
    quota = Quota(servers_per_group={"data-science": 1})
    assert "The group data-science has 1 servers" in refused(quota, asks(db, "scientist", ""))
    quota.check(asks(db, "scientist", ""), "another")


def test_nothing_is_limited_by_zero(db):
    for name in "abcdefg":
        runs(db, "scientist", name)
    Quota(servers_per_user=0).check(asks(db, "scientist", ""), "data-science")


def test_limits_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("THEMISTO_SERVERS_PER_USER", "3")
    assert Quota().servers_per_user == 3
