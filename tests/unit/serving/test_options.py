"""What people write for batching and service levels."""

from __future__ import annotations

import pytest

from themisto.errors import Invalid
from themisto.serving.models import ServingConfig
from themisto.serving.options import batch_config


def test_every_word_of_a_batch_setting():
    text = "max=64,delay=2ms,preferred=16+32,instances=2,cache=on,priority=3,rate=500/s"
    assert batch_config(text, warmup=4) == ServingConfig(
        max_batch=64,
        queue_delay_us=2000,
        preferred_batches=(16, 32),
        instances=2,
        cache=True,
        priority=3,
        rate_per_s=500,
        warmup=4,
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("size=3", "'size=3' is no batch setting"),
        ("max", "'max' is no batch setting"),
        ("max=0", "max_batch"),
        ("delay=1s", "'delay=1s'"),
        ("preferred=16+", "'preferred=16"),
        ("preferred=32+16", "must rise"),
        ("max=8,preferred=16", "preferred batch of 16 is over the largest, 8"),
        ("cache=maybe", "'cache=maybe'"),
        ("priority=0", "priority"),
        ("rate=0", "rate_per_s"),
        ("rate=99999999999", "'rate=99999999999'"),
    ],
)
def test_mistakes_are_named(text, says):
    with pytest.raises(Invalid, match=says):
        batch_config(text)
