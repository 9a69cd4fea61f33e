"""The gateway before Triton: what token check, split and log cost."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tests.benchmarks.bare_envoy import bare_envoy
from tests.benchmarks.load import Load, load
from tests.benchmarks.record import Record
from tests.integration.gateway.parts import INFER_KEY, Gateway

from themisto.serving.models import ServingConfig, Signature
from themisto_hub.gateway.routes import RouteTable, write
from themisto_hub.model_server import repository
from themisto_hub.model_server.infer_key import INFER_HEADER, INFER_METADATA

_ROUNDS = 5
_CALLS = 3000
_ALONE = "Envoy with a router alone"
_COLUMNS = [f"f{n}" for n in range(10)]
ONE_ROW = json.dumps(
    {"inputs": [{"name": name, "shape": [1, 1], "datatype": "FP64", "data": [0.5]} for name in _COLUMNS]}
).encode()

Ask = Callable[[int], Load]
"""Asks from that many connections at once."""


def run(record: Record) -> None:
    with served(29000) as gateway:
        _before_triton(record, gateway)


@contextmanager
def served(port: int, *more: str, **environment: str) -> Iterator[Gateway]:
    """Triton with the releases `bench@1` and `bench@2`, the gateway before it, the log's writer; `more` processes."""
    with TemporaryDirectory() as folder:
        gateway = Gateway(Path(folder), port)
        gateway.environment.update(environment)
        write(RouteTable(), gateway.settings.xds)
        processes = [gateway.log, *(getattr(gateway, name) for name in more), gateway.envoy, gateway.triton]
        try:
            gateway.triton.start(gateway.triton_ready)
            gateway.envoy.start(gateway.envoy_ready)
            for process in processes[:-2]:
                process.start()
            model, signature = lightgbm()
            for number in (1, 2):
                load_release(gateway, number, "onnx", model, signature)
            yield gateway
        finally:
            for process in processes:
                process.stop()


def _before_triton(record: Record, gateway: Gateway) -> None:
    """95 to 5 %, token checked, both bodies logged; against Triton itself and an Envoy that does nothing, in turns."""
    gateway.publish(gateway.route("bench", gateway.target("bench", 1, 95), gateway.target("bench", 2, 5)))
    assert gateway.envoy.popen is not None
    ports = {"http": gateway.settings.port + 30, "grpc": gateway.settings.port + 31}
    tritons = {"http": gateway.http_address, "grpc": gateway.grpc_address}
    for protocol, key in (("http", INFER_HEADER), ("grpc", INFER_METADATA)):
        with bare_envoy(ports, tritons, (key, INFER_KEY)) as alone:
            ask = asks(gateway, protocol, ports[protocol])
            cpus = Cpu(gateway.envoy.popen.pid), Cpu(alone)
            few = [partial(one, 8) for one in ask]
            rounds = in_turns(partial(cpus[0].of, few[0]), few[1], partial(cpus[1].of, few[2]))
            many = in_turns(*(partial(one, 32) for one in ask))
        what = "gateway" if protocol == "http" else "gateway_grpc"
        for side, over, peer in (
            (1, "", f"Triton itself, {protocol}"),
            (2, "_over_envoy", "Envoy with a router alone"),
        ):
            pairs = [(found[0], found[side]) for found in rounds]
            for name, q in (("p50", 0.5), ("p99", 0.99)):
                pair(record, f"{what}_{name}{over}_ms", pairs, q, f"{peer}, c=8")
            ours_s, theirs_s = (statistics.median(found[n].per_s for found in many) for n in (0, side))
            record.add(f"{what}_c32{over}_per_s", "requests/s", ours_s, theirs_s, f"{peer}, c=32")
        record.add(f"{what}_cpu_us", "us of CPU", cpus[0].us(), 150.0, "the budget")
        record.add(f"{what}_cpu_over_envoy_us", "us of CPU", cpus[0].us(), cpus[1].us(), _ALONE)


def asks(gateway: Gateway, protocol: str, alone: int) -> tuple[Ask, Ask, Ask]:
    """Through the gateway; at Triton; through the Envoy at port `alone`."""
    ports = gateway.settings.ports
    if protocol == "http":
        path = "/v2/models/{}/infer"
        bodies = ONE_ROW, ONE_ROW
        key, envoy, triton = INFER_HEADER, ports.gateway_http, gateway.http_address
    else:
        path = "/inference.GRPCInferenceService/ModelInfer"
        bodies = _message("bench"), _message("bench--1")
        key, envoy, triton = INFER_METADATA, ports.gateway_grpc, gateway.grpc_address

    def ask(address: str, model: str, body: bytes, headers: Mapping[str, str]) -> Ask:
        url, grpc = f"http://{address}{path.format(model)}", protocol == "grpc"
        return lambda clients: none_failed(load(url, body, headers, clients=clients, calls=_CALLS, grpc=grpc))

    return (
        ask(f"127.0.0.1:{envoy}", "bench", bodies[0], gateway.headers()),
        ask(triton, "bench--1", bodies[1], {key: INFER_KEY}),
        ask(f"127.0.0.1:{alone}", "bench--1", bodies[1], {}),
    )


def none_failed(found: Load) -> Load:
    if found.failed:
        raise RuntimeError(f"{found.failed} requests failed")
    return found


def _message(model: str) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=model)
    for name in _COLUMNS:
        column = request.inputs.add(name=name, datatype="FP64", shape=[1, 1])
        column.contents.fp64_contents.append(0.5)
    return bytes(request.SerializeToString())


def in_turns(*asks: Callable[[], Load]) -> list[tuple[Load, ...]]:
    for ask in asks:
        ask()
    return [tuple(ask() for ask in asks) for _ in range(_ROUNDS)]


def pair(record: Record, name: str, pairs: Sequence[tuple[Load, ...]], q: float, peer: str) -> None:
    """The medians over the rounds of each side's quantile."""
    ours, theirs = (statistics.median(p[side].quantile(q) for p in pairs) for side in (0, 1))
    record.add(name, "ms", ours, theirs, peer)


class Cpu:
    """CPU of an Envoy's process over the requests it answered."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._each: list[float] = []

    def of(self, ask: Callable[[], Load]) -> Load:
        before = self._spent()
        found = ask()
        time.sleep(0.6)  # the access log is flushed
        self._each.append((self._spent() - before) / _CALLS * 1e6)
        return found

    def us(self) -> float:
        return statistics.median(self._each)

    def _spent(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def load_release(gateway: Gateway, number: int, kind: repository.Kind, data: bytes, signature: Signature) -> None:
    name = f"bench--{number}"
    config = repository.model_config(name, kind, signature, ServingConfig())
    gateway.client.load(name, config, repository.files(kind, data))


def lightgbm() -> tuple[bytes, Signature]:
    """LightGBM, 100 trees over ten columns, as ONNX."""
    import lightgbm as lgb
    import numpy as np
    import pandas as pd

    from themisto.serving.exporters.lightgbm import LightGbm

    rng = np.random.default_rng(7)
    frame = pd.DataFrame({name: rng.normal(size=2000) for name in _COLUMNS})
    model = lgb.LGBMClassifier(n_estimators=100, verbose=-1).fit(frame, (frame.f0 + frame.f1 > 0).astype(int))
    export = LightGbm().export(model, frame)
    return export.data, export.signature
