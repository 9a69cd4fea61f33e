"""Spans: off by default, sent where a collector is named, and never the words of an error."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.fakes.otlp import Collector

from themisto.span_settings import SpanSettings
from themisto_hub.settings import Deployment

VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


def notebook(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: who sends is decided once for a process."""
    return subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", code],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


TWO = """
from themisto.spans import current, headers, span
with span("outer", {"themisto.endpoint": "credit"}) as outer:
    try:
        with span("inner", kind="client"):
            print(headers()["traceparent"])
            raise ValueError("kim has 4711")
    except ValueError:
        pass
"""


def test_by_default_nothing_is_imported_and_nothing_sent():
    code = (
        "import sys\nfrom themisto.spans import current, headers, span\n"
        "with span('x', {'a': 1}, kind='client') as one:\n"
        "    one.set({'b': 2}); one.rename('y'); one.failed('z')\n"
        "    print(one.context, repr(one.traceparent), headers(), current().context)\n"
        "assert not any(m.startswith('opentelemetry') for m in sys.modules)"
    )
    assert notebook(code).stdout == "None '' {} None\n"


def test_spans_of_a_notebook_are_sent_at_its_end_at_the_latest():
    with Collector() as collector:
        said = notebook(TWO, **{VARIABLE: collector.url}).stdout.strip()
        inner, outer = collector.spans
    assert (inner.service, inner.name, inner.kind, inner.parent) == ("notebook", "inner", 3, outer.id)
    assert said == f"00-{outer.trace}-{inner.id}-01"
    assert outer.attributes == {"themisto.endpoint": "credit"}


def test_an_error_is_told_by_its_class_alone():
    with Collector() as collector:
        notebook(TWO, **{VARIABLE: collector.url})
        inner, outer = collector.spans
        (sent,) = collector.raw
    assert (inner.status, inner.attributes, inner.events) == (2, {"error.type": "ValueError"}, [])
    assert outer.status == 0
    assert b"kim" not in sent


def test_what_is_not_sampled_is_passed_on_as_such_and_not_sent():
    environment = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    with Collector() as collector:
        said = notebook(TWO, **{VARIABLE: collector.url}, **environment).stdout.strip()
        assert collector.asked == 0
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", said)


@pytest.mark.parametrize("sampler", ["parentbased_always_on", "always_off"])
def test_the_parent_decides_only_where_the_sampler_asks_it(sampler):
    code = """
from themisto.spans import headers, span
with span("child", parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
    print(headers(recorded=True))
"""
    with Collector() as collector:
        said = notebook(code, **{VARIABLE: collector.url, "OTEL_TRACES_SAMPLER": sampler}).stdout
        sent = [(one.trace, one.parent) for one in collector.spans]
    if sampler == "always_off":
        assert (said, sent) == ("{}\n", [])
    else:
        assert sent == [("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")]


@pytest.mark.parametrize("parent", ["garbage", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_what_is_no_parent_begins_a_trace(parent):
    code = f"from themisto.spans import span\nwith span('root', parent={parent!r}): pass"
    with Collector() as collector:
        notebook(code, **{VARIABLE: collector.url})
        assert [one.parent for one in collector.spans] == [""]


def test_a_set_up_of_her_own_is_used_and_ours_keeps_out():
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
from themisto.spans import span
with span("hers") as one: print(one.context[2])
"""
    with Collector() as collector:
        assert notebook(code, **{VARIABLE: collector.url}).stdout == "True\n"
        assert collector.asked == 0


def test_our_own_name_of_the_setting_counts_before_the_standard_one():
    with Collector() as collector:
        notebook(TWO, **{f"THEMISTO_{VARIABLE}": collector.url, VARIABLE: "http://127.0.0.1:9"})
        assert len(collector.spans) == 2


def test_a_wrong_address_costs_a_notebook_a_warning_and_nothing_else():
    done = notebook("from themisto.spans import span\nwith span('x') as one: print(one.context)", **{VARIABLE: "nope"})
    assert done.stdout == "None\n"
    assert "No spans are sent from here" in done.stderr


def test_without_the_extra_the_warning_names_it():
    code = (
        "import sys\nsys.modules['opentelemetry.exporter'] = None\n"
        "from themisto.spans import span\nwith span('x') as one: print(one.context)"
    )
    done = notebook(code, **{VARIABLE: "http://127.0.0.1:9"})
    assert done.stdout == "None\n"
    assert "pip install 'themisto[tracing]'" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    ["nope", "ftp://c", "http://a b", "http://user:word@c", "http://c?key=1", "http://", "http://c,x", 'http://c"'],
)
def test_what_is_no_address_is_refused(wrong):
    with pytest.raises(ValidationError, match="otel_exporter_otlp_endpoint"):
        SpanSettings(otel_exporter_otlp_endpoint=wrong)


@pytest.mark.parametrize("share", ["-0.1", "1.1", "much"])
def test_what_is_no_share_is_refused(share, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    with pytest.raises(ValidationError, match="otel_traces_sampler_arg"):
        SpanSettings()


def test_empty_variables_are_none(monkeypatch):
    for name in (VARIABLE, "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"):
        monkeypatch.setenv(name, "")
    assert (SpanSettings().traces_url, SpanSettings().share, SpanSettings().follows_caller) == (None, 1.0, True)


def test_a_sampler_that_is_not_known_is_told_and_the_default_counts(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "xray")
    with pytest.warns(UserWarning, match="xray"):
        assert SpanSettings().otel_traces_sampler == "parentbased_always_on"


@pytest.mark.parametrize(
    ("sampler", "share", "follows"),
    [
        ("always_on", 1.0, False),
        ("always_off", 0.0, False),
        ("traceidratio", 0.25, False),
        ("parentbased_always_on", 1.0, True),
        ("parentbased_always_off", 0.0, True),
        ("parentbased_traceidratio", 0.25, True),
    ],
)
def test_samplers_by_their_standard_names(sampler, share, follows):
    settings = SpanSettings(otel_traces_sampler=sampler, otel_traces_sampler_arg=0.25)
    assert (settings.share, settings.follows_caller) == (share, follows)


def test_a_server_reads_it_from_its_file_and_the_variable_counts_before(tmp_path, monkeypatch):
    file = tmp_path / "themisto.toml"
    file.write_text('otel_exporter_otlp_endpoint = "http://file:4318"\nport = 9000\n')
    monkeypatch.setitem(Deployment.model_config, "toml_file", [file])
    assert Deployment().traces_url == "http://file:4318/v1/traces"
    monkeypatch.setenv(VARIABLE, "https://variable/otlp/")
    assert (Deployment().traces_url, Deployment().port) == ("https://variable/otlp/v1/traces", 9000)


def test_another_process_gets_the_same_settings(monkeypatch):
    told = SpanSettings(otel_exporter_otlp_endpoint="http://c:4318", otel_traces_sampler="traceidratio")
    for name, value in told.span_environment.items():
        monkeypatch.setenv(name, value)
    assert SpanSettings() == told
    assert SpanSettings().span_environment
    assert all(name.startswith("THEMISTO_") for name in told.span_environment)


def test_nobody_is_told_of_a_collector_that_is_not_there():
    assert Deployment(state=Path("/nonexistent")).span_environment == {}
