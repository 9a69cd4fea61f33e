"""Who each process runs as, and what it may know."""

from pathlib import Path

import pytest

from themisto_hub.settings import Deployment, Keys
from themisto_hub.supervisor.keyring import Keyring
from themisto_hub.supervisor.processes import processes


@pytest.fixture
def found(tmp_path):
    def make(isolation, **fields):
        settings = Deployment(state=tmp_path, isolation=isolation, **fields)
        keys = Keyring(tmp_path / "keys" / "keys.json")
        return processes(settings, keys, Path("/root"), Path("/node/bin/node"), Path("/triton")), keys

    return make


def test_each_service_has_a_uid_of_its_own(found):
    services, _ = found("uid")
    uids = {p.user: p.uid for p in services if p.user}
    assert len(set(uids.values())) == len(uids)
    assert {p.name for p in services if p.uid is None} == {"hub", "pool"}, "these change uids themselves"


def test_without_isolation_all_run_as_the_one_who_started_them(found):
    services, _ = found("none")
    assert {p.uid for p in services} == {None}
    assert all(p.gids == [] for p in services)


def test_no_process_knows_a_key_that_is_not_its_own(found):
    services, keys = found("uid")
    holders = {name: {p.name for p in services if keys[name] in p.environment.values()} for name in Keys.model_fields}
    assert holders["operator"] == {"control"}
    assert holders["session"] == {"control"}
    assert holders["hub_crypt"] == {"hub"}
    assert holders["hub_culler"] == {"hub"}
    assert holders["oidc_hub"] == {"idp", "hub"}
    assert holders["oidc_review"] == {"idp", "control"}
    assert not [name for name, names in holders.items() if "envoy" in names]


def test_no_key_is_on_a_command_line(found):
    services, keys = found("uid")
    said = " ".join(word for p in services for word in p.command)
    assert not [name for name in Keys.model_fields if keys[name] in said]


def test_keys_are_made_once_and_kept(tmp_path):
    file = tmp_path / "keys" / "keys.json"
    first = Keyring(file)
    assert all(Keyring(file)[name] == first[name] for name in Keys.model_fields)
    assert file.stat().st_mode & 0o077 == 0


def test_only_the_control_plane_learns_where_events_go(found, monkeypatch):
    monkeypatch.setenv("THEMISTO_KEY_EVENTS", '[{"url": "slack://a/b/c"}]')
    services, _ = found("uid")
    assert {p.name for p in services if any("slack://" in value for value in p.environment.values())} == {"control"}


def test_only_the_control_plane_has_the_credentials_of_buckets(found, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token")
    services, _ = found("uid", offline_store="s3://rows/views")
    assert {p.name for p in services if any(name.startswith("AWS_") for name in p.environment)} == {"control"}
    (control,) = [p for p in services if p.name == "control"]
    assert control.environment["AWS_SECRET_ACCESS_KEY"] == "very-secret"


def test_every_process_hears_where_spans_go(found):
    assert not [p.name for p in found("uid")[0] if any("OTEL" in name for name in p.environment)]
    services, _ = found("uid", otel_exporter_otlp_endpoint="http://127.0.0.1:4318")
    assert {p.environment["THEMISTO_OTEL_EXPORTER_OTLP_ENDPOINT"] for p in services} == {"http://127.0.0.1:4318"}


STREAMS = {"kafka": "127.0.0.1:9092", "streams": ({"name": "s", "endpoint": "e", "input": "in", "output": "out"},)}


def test_streams_run_where_some_are_declared(found):
    assert "streams" not in {p.name for p in found("uid")[0]}
    assert "streams" in {p.name for p in found("uid", **STREAMS)[0]}


def test_only_the_streams_learn_how_to_log_in_at_kafka(found, monkeypatch):
    monkeypatch.setenv("THEMISTO_KEY_KAFKA", '{"sasl.password": "very-secret"}')
    services, keys = found("uid", **STREAMS)
    assert {p.name for p in services if any("very-secret" in v for v in p.environment.values())} == {"streams"}
    assert {p.name for p in services if keys["streams"] in p.environment.values()} == {"streams", "control"}


TOPICS = {"kafka": "127.0.0.1:9092", "feature_topics": {"data-science": ["payments"]}}


def test_topics_are_read_where_a_group_may_read_one(found, monkeypatch):
    monkeypatch.setenv("THEMISTO_KEY_KAFKA", '{"sasl.password": "very-secret"}')
    assert "feature-streams" not in {p.name for p in found("uid")[0]}
    services, keys = found("uid", **TOPICS)
    holders = {p.name for p in services if keys["feature_streams"] in p.environment.values()}
    assert holders == {"feature-streams", "control"}
    knowing = {p.name for p in services if any("very-secret" in v for v in p.environment.values())}
    assert knowing == {"feature-streams"}
