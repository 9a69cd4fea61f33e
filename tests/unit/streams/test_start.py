"""How Kafka's consumers start: with a port of their own, and with one sentence where they cannot."""

from __future__ import annotations

import pytest

from themisto.errors import MissingSetting
from themisto_hub.streams.start import start


def test_it_runs_with_the_port_it_is_given() -> None:
    ports: list[int | None] = []
    for line in ([], ["--port", "7"]):
        assert start("streams", None, lambda port: ports.append(port) or 0, line) == 0
    assert ports == [None, 7]


def test_what_is_missing_is_one_sentence_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: int | None) -> int:
        raise MissingSetting("No stream is declared.", "Set THEMISTO_STREAMS.")

    assert start("feature_streams", None, run, []) == 1
    assert capsys.readouterr().err == "feature-streams: No stream is declared. Set THEMISTO_STREAMS.\n"
