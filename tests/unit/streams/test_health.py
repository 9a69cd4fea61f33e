"""What the streams' page and the doctor say."""

from __future__ import annotations

import httpx
import pytest

from themisto_hub.doctor import _streams
from themisto_hub.settings import Deployment
from themisto_hub.streams.health import serving
from themisto_hub.streams.metrics import Metrics, StreamMetrics
from themisto_hub.streams.models import Stream


@pytest.fixture
def settings(tmp_path, free_base):
    stream = Stream(name="credit", endpoint="credit", input="in", output="out")
    return Deployment(state=tmp_path, port=free_base(), kafka="127.0.0.1:9092", streams=(stream,))


def test_no_stream_is_well():
    assert _streams(declared=False, port=9) == ("none declared", True)


def test_process_that_does_not_answer_is_down(settings):
    assert _streams(declared=True, port=settings.ports.streams) == ("down", False)


def test_each_stream_says_how_it_does(settings):
    metrics = Metrics()
    own = StreamMetrics("credit", metrics)
    with serving(settings.ports.streams, metrics.exposition, lambda: [own.state]):
        assert _streams(declared=True, port=settings.ports.streams) == ("credit: It has not begun", False)
        own.goes_on()
        own.waits({0: 3, 1: 4})
        assert _streams(declared=True, port=settings.ports.streams) == ("credit: running, 7 waiting", True)
        own.retried("The gateway does not answer.")
        assert _streams(declared=True, port=settings.ports.streams) == (
            "credit: The gateway does not answer, 7 waiting",
            False,
        )


def test_partition_that_went_to_another_consumer_has_no_lag_here(settings):
    metrics = Metrics()
    own = StreamMetrics("credit", metrics)
    with serving(settings.ports.streams, metrics.exposition, lambda: [own.state]):
        own.waits({0: 3, 1: 4})
        own.waits({1: 2})
        url = f"http://127.0.0.1:{settings.ports.streams}"
        lines = httpx.get(f"{url}/metrics", trust_env=False).text.splitlines()
        assert httpx.get(f"{url}/other", trust_env=False).status_code == 404
    assert [line for line in lines if line.startswith("themisto_stream_lag_records{")] == [
        'themisto_stream_lag_records{partition="1",stream="credit"} 2.0'
    ]
