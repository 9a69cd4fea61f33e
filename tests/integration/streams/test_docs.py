"""The examples of docs/streams.md, as they stand, against a real Kafka; its tables are those of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from confluent_kafka.admin import NewTopic

from themisto_hub.settings import Deployment

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "streams.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def test_what_is_sent_is_answered(bench, running, capsys):
    (declared,) = [tomllib.loads(text) for kind, text in BLOCKS if kind == "toml"]
    (stream,) = Deployment(**declared).streams
    admin = bench.admin
    for future in admin.create_topics([NewTopic(t, 2, 1) for t in (stream.input, stream.output)]).values():
        future.result(30)
    bench.streams.append(stream)
    bench.restart_control()
    running(stream)
    send, read = [text for kind, text in BLOCKS if kind == "python"]
    for example in (send, read):
        exec(example.replace("kafka-1.bank.example:9092", bench.kafka), {})
    assert capsys.readouterr().out == "application-2231 credit@1 [42.0]\n"
