"""configure(c) on an empty and on a foreign configuration."""

import pytest
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets.config import Config

import themisto_hub
from themisto_hub.auth import OIDCAuthenticator
from themisto_hub.configure import configure
from themisto_hub.settings import Deployment, Keys
from themisto_hub.spawners.kubernetes import KubernetesSpawner
from themisto_hub.spawners.local import LocalSpawner

KEYS = Keys(**dict.fromkeys(Keys.model_fields, "ab" * 32))


@pytest.fixture
def settings(tmp_path):
    return Deployment(state=tmp_path, port=18000)


def test_an_empty_configuration_becomes_a_workbench(settings, tmp_path):
    c = Config()
    assert configure(c, settings, KEYS) == []
    assert c.JupyterHub.authenticator_class is OIDCAuthenticator
    assert c.JupyterHub.spawner_class is LocalSpawner
    assert c.OIDCAuthenticator.enable_pkce is True
    assert c.OIDCAuthenticator.allowed_groups == settings.allowed_groups
    assert "admin_groups" not in c.OIDCAuthenticator
    assert c.OIDCAuthenticator.auth_refresh_strict is True
    assert 0 < c.OIDCAuthenticator.auth_refresh_age <= 60
    assert c.ConfigurableHTTPProxy.should_start is False
    assert [len(key) for key in c.CryptKeeper["keys"]] == [32]
    assert {s["name"]: s.get("url") for s in c.JupyterHub.services} == {
        "themisto": "http://127.0.0.1:18003",
        "tracking": "http://127.0.0.1:18005",
        "idle-culler": None,
    }
    assert c.Spawner.environment == {"THEMISTO_URL": "http://127.0.0.1:18000/services/themisto"}


def test_servers_are_told_where_spans_go(settings):
    c = Config()
    configure(c, settings.model_copy(update={"otel_exporter_otlp_endpoint": "http://127.0.0.1:4318"}), KEYS)
    assert c.Spawner.environment["THEMISTO_OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"


def test_a_foreign_authenticator_and_spawner_stay(settings):
    c = Config()
    c.JupyterHub.authenticator_class = DummyAuthenticator
    c.JupyterHub.spawner_class = SimpleLocalProcessSpawner
    c.JupyterHub.bind_url = "http://:9000"
    c.Spawner.environment = {"THEMISTO_URL": "https://elsewhere", "MINE": "1"}
    c.JupyterHub.services = [{"name": "tracking", "url": "http://theirs"}, {"name": "other"}]
    c.JupyterHub.load_roles = [{"name": "theirs", "scopes": []}]
    left = configure(c, settings, KEYS)
    assert c.JupyterHub.authenticator_class is DummyAuthenticator
    assert c.JupyterHub.spawner_class is SimpleLocalProcessSpawner
    assert c.JupyterHub.bind_url == "http://:9000"
    assert "OIDCAuthenticator" not in c
    assert "LocalSpawner" not in c
    assert c.Spawner.environment == {"THEMISTO_URL": "https://elsewhere", "MINE": "1"}
    assert "args" not in c.Spawner
    assert c.JupyterHub.services[0] == {"name": "tracking", "url": "http://theirs"}
    assert [s["name"] for s in c.JupyterHub.services] == ["tracking", "other", "idle-culler", "themisto"]
    assert c.JupyterHub.load_roles[0] == {"name": "theirs", "scopes": []}
    assert set(left) == {
        "JupyterHub.authenticator_class",
        "JupyterHub.spawner_class",
        "JupyterHub.bind_url",
        "JupyterHub.services['tracking']",
        "Spawner.environment['THEMISTO_URL']",
    }


def test_what_was_left_alone_is_said(settings, caplog):
    c = Config()
    c.JupyterHub.spawner_class = "simple"
    with caplog.at_level("WARNING"):
        configure(c, settings, KEYS)
    assert "JupyterHub.spawner_class is already set and was left alone" in caplog.text


def test_lists_that_were_only_appended_to_are_kept(settings):
    c = Config()
    c.JupyterHub.services.append({"name": "theirs"})
    c.JupyterHub.custom_scopes.update({"custom:theirs": {"description": "x"}})
    configure(c, settings, KEYS)
    assert c.JupyterHub.services[0] == {"name": "theirs"}
    assert "custom:theirs" in c.JupyterHub.custom_scopes
    assert "custom:themisto:deploy" in c.JupyterHub.custom_scopes


def test_twice_is_once(settings):
    c = Config()
    configure(c, settings, KEYS)
    services, roles = list(c.JupyterHub.services), list(c.JupyterHub.load_roles)
    configure(c, settings, KEYS)
    assert c.JupyterHub.services == services
    assert c.JupyterHub.load_roles == roles


def test_kubernetes_is_one_setting(settings):
    c = Config()
    configure(c, settings.model_copy(update={"spawner": "kubernetes"}), KEYS)
    assert c.JupyterHub.spawner_class is KubernetesSpawner
    assert c.JupyterHub.cleanup_servers is False


def test_the_module_itself_can_be_called(settings):
    c = Config()
    from themisto_hub import configure as from_the_package

    assert callable(from_the_package)
    from_the_package(c, settings, KEYS)
    assert themisto_hub.configure.configure is configure
    assert c.JupyterHub.spawner_class is LocalSpawner


def test_the_isolation_is_what_the_supervisor_says(settings):
    for said, isolated in (("uid", True), ("none", False)):
        c = Config()
        configure(c, settings.model_copy(update={"isolation": said}), KEYS)
        assert c.LocalSpawner.isolated is isolated
