"""Metrics: what Prometheus reads, and that the alerts ask for what there is."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from tests.fakes.access_log import raw_line

DOCS = (Path(__file__).parents[4] / "docs" / "events.md").read_text()
RULES = YAML(typ="safe").load((resources.files("themisto_hub") / "alerts.yaml").read_text())
NAME = re.compile(r"\b(?:themisto|envoy|nv)_\w+")


def scraped(world):
    """Sample name and labels to value."""
    text = world.control.metrics.exposition().decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_endpoints_and_rollouts_are_counted_by_state(world):
    world.live("credit")
    world.live("fraud", tier="prod")
    world.names.claim(world.caller(), "later", "data-science")
    world.live("gone")
    world.rollouts.retire(world.caller(), "gone")
    now = scraped(world)
    assert now["themisto_endpoints", "answering", "dev"] == 1
    assert now["themisto_endpoints", "answering", "prod"] == 1
    assert now["themisto_endpoints", "dev", "empty"] == 1
    assert now["themisto_endpoints", "dev", "retired"] == 1
    assert now["themisto_rollouts", "done"] == 3
    assert now["themisto_rollouts", "running"] == 0


def test_approvals_that_wait_have_an_age(world):
    assert scraped(world)["themisto_approval_oldest_age_seconds",] == 0
    world.release(tier="prod")
    world.progress.proved(world.rollout_id(), "proved")
    world.clock.pass_(hours=2)
    now = scraped(world)
    assert now["themisto_approvals_waiting",] == 1
    assert now["themisto_approval_oldest_age_seconds",] == pytest.approx(7200, abs=1)


def test_steps_are_measured_from_one_to_the_next(world):
    world.release(tier="prod")
    rollout = world.rollout_id()
    world.clock.pass_(seconds=20)
    world.progress.proved(rollout, "proved")
    world.clock.pass_(seconds=100)
    _, ticket = world.approvals.open(world.login(), rollout)
    world.approvals.decide(ticket, "approve")
    world.clock.pass_(seconds=5)
    world.progress.loaded(rollout, "answers")
    now = scraped(world)
    sums = {step: now["themisto_rollout_step_seconds_sum", step] for step in ("proved", "approve", "done")}
    assert sums == pytest.approx({"proved": 20, "approve": 100, "done": 5}, abs=0.5)


def test_a_step_that_was_not_committed_is_not_measured(world):
    world.release()
    rollout = world.rollout_id()

    def cut_short():
        with world.control.db.write() as session:
            world.control.audit.append(session, actor="x", action="rollout.failed", object=f"rollout/{rollout}")
            raise RuntimeError("the power goes")

    with pytest.raises(RuntimeError):
        cut_short()
    assert ("themisto_rollout_step_seconds_count", "failed") not in scraped(world)


def test_the_reconciler_says_when_it_was_last_through(world):
    world.control.metrics.reconciled("route table")
    assert scraped(world)["themisto_reconciler_last_success_timestamp_seconds", "route table"] > 1.7e9


def test_the_prediction_log_says_how_far_it_is_behind(world):
    from themisto_hub.gateway.log import Tail

    folder = world.control.settings.folder("gateway")
    folder.mkdir(parents=True)
    assert scraped(world)["themisto_prediction_log_unread_bytes",] == 0
    said = raw_line({"path": "/v2/health/live"})
    (folder / "predictions.log").write_text(said)
    assert scraped(world)["themisto_prediction_log_unread_bytes",] == len(said)
    Tail(folder).step(flush=True)
    now = scraped(world)
    assert (now["themisto_prediction_log_unread_bytes",], now["themisto_prediction_log_lag_seconds",]) == (0, 0)


def test_a_gateway_elsewhere_leaves_the_log_out_and_nothing_else(world, monkeypatch):
    def denied(_):
        raise PermissionError

    monkeypatch.setattr("themisto_hub.gateway.tail.lag", denied)
    names = {name for name, *_ in scraped(world)}
    assert "themisto_prediction_log_unread_bytes" not in names
    assert "themisto_endpoints" in names


# docs and alerts


def families(world):
    world.control.metrics.reconciled("route table")
    world.control.settings.folder("gateway").mkdir(parents=True)
    world.live()
    world.control.metrics.events_sent.labels("rollout.promoted").inc()
    world.control.metrics.events_failed.labels("rollout.promoted").inc()
    return {name for name, *_ in scraped(world)}


def test_the_docs_name_what_there_is_and_all_of_it(world):
    names = families(world)
    real = {re.sub(r"_(bucket|sum|count|created)$", "", n) for n in names if not n.endswith("_created")}
    documented = {n for n in NAME.findall(DOCS) if n.startswith("themisto_") and n != "themisto_hub"}
    assert documented == real


def test_alert_rules_are_of_prometheus_shape():
    (group,) = RULES["groups"]
    assert len(group["rules"]) == 5
    for rule in group["rules"]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert rule["labels"]["severity"] in ("page", "ticket")
        promql_parser.parse(rule["expr"])


def test_a_wrong_rule_would_be_noticed():
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("sum(rate(x[5m]) > ")


def test_alerts_ask_for_metrics_that_there_are(world):
    names = families(world)
    asked = {name for rule in RULES["groups"][0]["rules"] for name in NAME.findall(rule["expr"])}
    assert {name for name in asked if name.startswith("themisto_")} <= names


def test_the_docs_tell_what_to_do_for_each_alert():
    told = set(re.findall(r"^\| `(Themisto\w+)`", DOCS, re.MULTILINE))
    assert told == {rule["alert"] for rule in RULES["groups"][0]["rules"]}


def test_the_docs_list_every_event():
    from themisto_hub.control.outbox.event import KINDS

    assert re.findall(r"^\| `((?:rollout|gate|job|schedule)\.\w+)`", DOCS, re.MULTILINE) == list(KINDS)


def test_the_docs_settings_are_read_as_they_stand(tmp_path, monkeypatch):
    from themisto_hub.control.outbox.target import EventSettings, configured

    file = tmp_path / "themisto.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", DOCS, re.DOTALL)[1])
    monkeypatch.delenv("THEMISTO_KEY_EVENTS", raising=False)
    monkeypatch.setitem(EventSettings.model_config, "toml_file", [file])
    assert [t.title for t in configured()] == ["https://hooks.bank.example", "mailtos://…", "slack://…"]
