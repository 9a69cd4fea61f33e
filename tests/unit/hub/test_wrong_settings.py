"""A wrong setting is told in one sentence, whatever is wrong with it."""

from __future__ import annotations

import pytest

from themisto_hub.cli import main


def test_a_collector_that_is_no_address_is_told(monkeypatch, capsys):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "nope")
    assert main(["doctor"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("themisto: The setting THEMISTO_OTEL_EXPORTER_OTLP_ENDPOINT cannot be 'nope'")
    assert "http://127.0.0.1:4318" in line


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nope", '"streams"'),
        ('[{"name": "c", "endpoint": "c", "input": "a", "output": "a"}]', "would read its own answers"),
        ('[{"name": "c", "endpoint": "c", "input": "a", "output": "b"}]', "THEMISTO_KAFKA"),
    ],
)
def test_streams_that_cannot_run_are_told(value, said, monkeypatch, capsys):
    monkeypatch.setenv("THEMISTO_STREAMS", value)
    assert main(["doctor"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("themisto: ")
    assert said in line
