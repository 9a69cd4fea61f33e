"""Predictions by entity key at 300 a second: the features are looked up, then the model answers."""

import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from tests.benchmarks.gateway import served
from tests.benchmarks.load import Load, steady
from tests.benchmarks.record import Record
from tests.integration.features.cassandra.node import CassandraNode
from tests.integration.gateway.parts import ISSUER, Gateway, wait_until

from themisto.features.models import Column
from themisto.features.reading import plan_of
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto_hub.gateway.feature_book import FeatureBook, write_book

_PER_S, _SECONDS, _ROUNDS = 300, 10, 3
_CUSTOMERS = 5000
_KEY = "key-of-the-worker"
_BUDGET_MS = 10.0
_NAMES = [f"f{n}" for n in range(10)]
_SPEC = ServiceSpec(
    name="bench",
    version=1,
    group="data-science",
    keys=(Column(name="customer", dtype="int64"),),
    columns=tuple(ServiceColumn(name=n, view="values_", view_version=1, feature=n, dtype="float64") for n in _NAMES),
    view_keys={"values_": ("customer",)},
    ttl_s={"values_": None},
    on_missing="refuse",
    defaults={},
)


def run(record: Record) -> None:
    """From SQLite; and from a Cassandra of the tests' own where THEMISTO_TEST_CASSANDRA says `start`, or its URL."""
    _measure(record, "sqlite")
    said = os.environ.get("THEMISTO_TEST_CASSANDRA")
    if said == "start":
        with TemporaryDirectory() as folder, CassandraNode(Path(folder) / "node") as url:
            _measure(record, "cassandra", THEMISTO_ONLINE_STORE=url)
    elif said:
        _measure(record, "cassandra", THEMISTO_ONLINE_STORE=said)


def _measure(record: Record, store: str, **environment: str) -> None:
    with served(29100, "transformer", THEMISTO_KEY_FEATURES=_KEY, **environment) as gateway:
        write_book(FeatureBook(services=(_SPEC,), jwks=gateway.jwks, issuers=(ISSUER,)), gateway.settings.xds)
        wait_until(lambda: httpx.get(gateway.transformer_ready, trust_env=False).status_code == 200, "the transformer")
        _fill(gateway)
        asked = gateway.route(
            "bench",
            gateway.target("bench", 1, 100),
            feature_service=_SPEC.ref,
            feature_names=tuple(_NAMES),
            keys=("customer",),
        )
        gateway.publish(asked)
        customers = [_request(["customer"], "INT64", customer) for customer in range(_CUSTOMERS)]
        by_key, whole = _asked(gateway, customers), _asked(gateway, [_request(_NAMES, "FP64", 0.5)])
        given, rate = _median(whole, 0.5), f"{_PER_S} requests/s"
        record.add(f"entity_{store}_p50_ms", "ms", _median(by_key, 0.5), given, f"features given, {rate}")
        record.add(f"entity_{store}_p99_ms", "ms", _median(by_key, 0.99), _BUDGET_MS, f"the budget, {rate}")
        asked, failed = sum(len(one.taken_ms) for one in by_key), sum(one.failed for one in by_key)
        record.add(f"entity_{store}_failed", f"requests of {asked}", failed, 0, "none")


def _asked(gateway: Gateway, bodies: list[bytes]) -> list[Load]:
    """Some rounds after one that warms up."""
    url = f"{gateway.url}/v2/models/bench/infer"
    rounds = range(_ROUNDS + 1)
    return [steady(url, bodies, gateway.headers(), per_s=_PER_S, seconds=_SECONDS) for _ in rounds][1:]


def _median(rounds: list[Load], q: float) -> float:
    return statistics.median(load.quantile(q) for load in rounds)


def _request(names: list[str], datatype: str, value: float) -> bytes:
    inputs = [{"name": name, "shape": [1, 1], "datatype": datatype, "data": [value]} for name in names]
    return json.dumps({"inputs": inputs}).encode()


def _fill(gateway: Gateway) -> None:
    """As the control plane's worker does it."""
    (table,) = (view.table for view in plan_of(_SPEC).views)
    now = time.time_ns() // 1000
    rows = [json.dumps([str(customer), now, *[0.5] * len(_NAMES)]) for customer in range(_CUSTOMERS)]
    body = "\n".join([table.model_dump_json(), *rows])
    url = f"http://127.0.0.1:{gateway.settings.ports.transformer_http}/internal/v1/rows"
    answer = httpx.post(url, content=body, headers={"x-themisto-key": _KEY}, timeout=120, trust_env=False)
    answer.raise_for_status()
