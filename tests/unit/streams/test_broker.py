"""What the operator's key for Kafka may say, and that a mistake in it is told without its values."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from themisto.errors import Invalid
from themisto_hub.streams.broker import Broker


def test_key_reaches_the_client():
    key = SecretStr('{"security.protocol": "SASL_SSL", "sasl.password": "very-secret"}')
    assert Broker("127.0.0.1:1", key).properties["sasl.password"] == "very-secret"


@pytest.mark.parametrize(
    "key",
    [
        "very-secret",
        '["very-secret"]',
        '{"sasl.password": ["very-secret"]}',
        '{"transactional.id": "very-secret"}',
        '{"isolation.level": "very-secret"}',
        '{"plugin.library.paths": "very-secret"}',
        '{"no.such.setting": "very-secret"}',
        '{"security.protocol": "very-secret"}',
    ],
)
def test_wrong_key_is_told_without_its_value(key):
    with pytest.raises(Invalid) as caught:
        Broker("127.0.0.1:1", SecretStr(key)).check()
    assert "very-secret" not in str(caught.value)
    assert "THEMISTO_KEY_KAFKA" in str(caught.value)
