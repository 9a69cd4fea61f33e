"""Targets of events: what the operator may configure, what is refused, and that no message holds an address."""

from __future__ import annotations

import base64
import json
import socket

import pytest

from themisto.errors import Invalid
from themisto_hub.control.outbox.target import EventSettings, Target, addresses, configured

SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()
ENVIRONMENT = "THEMISTO_KEY_EVENTS"


def given(monkeypatch, *targets):
    monkeypatch.setenv(ENVIRONMENT, json.dumps(targets))


def test_nothing_is_configured_by_default(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert configured() == ()


def test_the_environment_names_targets(monkeypatch):
    given(monkeypatch, {"url": "https://hooks.bank.example/x", "secret": SECRET}, {"url": "slack://a/b/c/#x"})
    assert [t.title for t in configured()] == ["https://hooks.bank.example", "slack://…"]


def test_the_settings_file_names_targets(monkeypatch, tmp_path):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    file = tmp_path / "themisto.toml"
    file.write_text('port = 8000\n[[events]]\nurl = "mailtos://u:p@smtp.bank.example"\nevents = ["job.failed"]\n')
    monkeypatch.setitem(EventSettings.model_config, "toml_file", [file])
    (target,) = configured()
    assert target.events == ("job.failed",)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": "hooks.bank.example/very-secret"}, "begins with its scheme"),
        ({"url": "https://hooks.bank.example/very-secret"}, "needs a secret"),
        ({"url": "https://hooks.bank.example/very-secret", "secret": "very-secret"}, "needs a secret"),
        ({"url": "https://hooks.bank.example/very-secret", "secret": "whsec_dmVyeQ=="}, "needs a secret"),
        ({"url": "https://u:very-secret@hooks.bank.example/", "secret": SECRET}, "without a user"),
        ({"url": "https:///very-secret", "secret": SECRET}, "https://host/path"),
        ({"url": "http://hooks.bank.example/very-secret", "secret": SECRET}, "this machine only"),
        ({"url": "http://10.0.0.1/very-secret", "secret": SECRET}, "this machine only"),
        ({"url": "https://169.254.169.254/very-secret", "secret": SECRET}, "link-local"),
        ({"url": "https://[fe80::1]/very-secret", "secret": SECRET}, "link-local"),
        ({"url": "https://[::ffff:169.254.169.254]/very-secret", "secret": SECRET}, "link-local"),
        ({"url": "https://[fd00:ec2::254]/very-secret", "secret": SECRET}, "link-local"),
        ({"url": "https://0.0.0.0/very-secret", "secret": SECRET}, "link-local"),
        ({"url": "ntfy://169.254.169.254/very-secret"}, "link-local"),
        ({"url": "json://hooks.bank.example/very-secret"}, "not signed"),
        ({"url": "syslog://very-secret"}, "this machine only"),
        ({"url": "slack://very-secret", "events": ["rollout.stoped"]}, "no event 'rollout.stoped'; there are"),
        ({"url": "slack://very-secret", "events": ["rollouts.*"]}, "no event"),
        ({"url": "slack://very-secret", "groups": ["Data Science"]}, "groups"),
        ({"url": "slack://very-secret", "event": []}, "event"),
        ({"events": ["*"]}, "url"),
    ],
)
def test_what_cannot_be_right_is_refused_in_a_sentence_without_the_address(monkeypatch, fields, says):
    given(monkeypatch, fields)
    with pytest.raises(Invalid, match=says) as error:
        configured()
    assert "very-secret" not in str(error.value)
    assert error.value.__cause__ is None


def test_what_is_no_json_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "https://hooks.bank.example/very-secret")
    with pytest.raises(Invalid, match="is no JSON") as error:
        configured()
    assert "very-secret" not in str(error.value)


@pytest.mark.parametrize(
    ("found", "scheme", "says"),
    [
        (["10.0.0.1", "169.254.169.254"], "https", "link-local"),
        (["::ffff:169.254.169.254"], "https", "link-local"),
        (["fe80::1%eth0"], "https", "link-local"),
        (["100.100.100.200"], "https", "metadata"),
        (["10.0.0.1"], "http", "away from this machine"),
    ],
)
def test_a_name_is_judged_by_where_it_leads(monkeypatch, found, scheme, says):
    def resolved(host, port, **_):
        return [(0, 0, 0, "", (address, port)) for address in found]

    host = "localhost" if scheme == "http" else "hooks.bank.example"
    target = Target(url=f"{scheme}://{host}/x", secret=SECRET)
    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(ValueError, match=says):
        addresses(target)


def test_an_address_inside_the_house_is_fine(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: [(0, 0, 0, "", ("10.1.2.3", port))])
    assert addresses(Target(url="https://hooks.bank.example/x", secret=SECRET)) == ["10.1.2.3"]
