"""Real parts for tests of the gateway: Triton, Envoy, tokens, tiny ONNX models that say which release they are."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from pydantic import SecretStr
from tests.integration.gateway.reading import read

from themisto.serving.models import Column, ServingConfig, Signature
from themisto_hub.gateway.fallback import StandIn
from themisto_hub.gateway.log import FOLDER
from themisto_hub.gateway.routes import Route, RouteTable, Target, write
from themisto_hub.model_server import repository
from themisto_hub.model_server.client import TritonClient
from themisto_hub.model_server.infer_key import infer_keys
from themisto_hub.settings import Deployment, Keys

ISSUER = "http://127.0.0.1:8000/services/themisto"
KEY = "key-of-the-load-api"
INFER_KEY = "key-of-the-inference-api"
DEFAULTS_KEY = "key-of-default-answers"
SIGNATURE = Signature(inputs=(Column(name="x", dtype="FP32"),), outputs=(Column(name="y", dtype="FP32"),))


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout_s} s")
        time.sleep(0.02)


def adder(number: int) -> bytes:
    """ONNX: y = x + number, so that an answer names its release."""
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1])

    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [float(number)])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["y"])], "adder", [value("x")], [value("y")], [constant]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def function(source: str) -> bytes:
    """A function as an artifact; `source` defines `predict(frame)`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("function.py", source)
        archive.writestr("signature.json", SIGNATURE.model_dump_json())
    return buffer.getvalue()


class Process:
    """A child with a process group of its own, whose end is awaited."""

    def __init__(self, *command: str, environment: dict[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, environment, log
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self, ready_url: str | None = None) -> None:
        with self._log.open("ab") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                env=self._environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        if ready_url:
            wait_until(lambda: self._answers(ready_url), f"{self._command} (log {self._log.read_text()[-2000:]})")

    def _answers(self, url: str) -> bool:
        assert self.popen is not None
        assert self.popen.poll() is None, self._log.read_text()[-3000:]
        try:
            return httpx.get(url, timeout=1, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.popen is None or self.popen.poll() is not None:
            return
        os.killpg(self.popen.pid, number) if number == signal.SIGKILL else self.popen.send_signal(number)
        try:
            self.popen.wait(15)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)


class Gateway:
    """Envoy before dev's Triton, with tokens signed as the control plane signs them."""

    def __init__(self, state: Path, port: int) -> None:
        self.state = state
        self.settings = Deployment(state=state, port=port)
        self._key: RSAPrivateKey = generate_private_key(public_exponent=65537, key_size=2048)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("THEMISTO_")},
            "THEMISTO_STATE": str(state),
            "THEMISTO_PORT": str(port),
            "THEMISTO_KEY_TRITON_DEV": KEY,
            "THEMISTO_KEY_TRITON_INFER_DEV": INFER_KEY,
            "THEMISTO_KEY_DEFAULTS": DEFAULTS_KEY,
            "THEMISTO_KEY_LOG_HASH": "11" * 32,
            "THEMISTO_KEY_LOG_ENCRYPT": "22" * 32,
            "THEMISTO_TRITON": os.environ.get("THEMISTO_TRITON", str(Path(".venvs/triton").absolute())),
            "THEMISTO_GATEWAY_CALLER_PER_S": "100000",
        }
        self.environment = environment
        self.triton = Process("themisto_hub.model_server", "dev", environment=environment, log=state / "triton.log")
        self.envoy = Process("themisto_hub.gateway", "envoy", environment=environment, log=state / "envoy.log")
        self.transformer = Process(
            "themisto_hub.gateway", "transformer", environment=environment, log=state / "transformer.log"
        )
        self.log = Process("themisto_hub.gateway", "log", environment=environment, log=state / "log.log")
        http, grpc, _ = self.settings.ports.triton["dev"]
        self.client = TritonClient(f"http://127.0.0.1:{http}", KEY, INFER_KEY)
        self.http_address, self.grpc_address = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"

    @property
    def url(self) -> str:
        return self.settings.gateway_http

    @property
    def envoy_ready(self) -> str:
        return f"http://127.0.0.1:{self.settings.ports.envoy_admin}/ready"

    @property
    def triton_ready(self) -> str:
        return f"http://{self.http_address}/v2/health/ready"

    @property
    def jwks(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [public | {"kid": "test", "use": "sig", "alg": "RS256"}]}

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        usual = {
            "iss": ISSUER,
            "aud": "themisto",
            "sub": "scientist",
            "groups": ["data-science"],
            "scopes": ["infer", "features:read"],
            "jti": "one",
            "iat": now,
            "exp": now + 600,
        }
        return jwt.encode(
            {k: v for k, v in (usual | claims).items() if v is not None}, self._key, "RS256", headers={"kid": "test"}
        )

    def headers(self, **claims: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(**claims)}"}

    def load(self, endpoint: str, number: int) -> None:
        name = f"{endpoint}--{number}"
        config = repository.model_config(name, "onnx", SIGNATURE, ServingConfig(queue_delay_us=0))
        self.client.load(name, config, repository.files("onnx", adder(number)))

    def load_function(self, name: str, source: str) -> None:
        """`name` as Triton has it: `slow--1`."""
        config = repository.model_config(name, "python", SIGNATURE, ServingConfig(queue_delay_us=0))
        self.client.load(name, config, repository.files("python", function(source)))

    def stand_in(self, kind: str, name: str) -> StandIn:
        return StandIn(kind=kind, release=name, http=self.http_address, grpc=self.grpc_address)

    def target(self, endpoint: str, number: int, weight_pct: int, *, shadow: bool = False, **fields: Any) -> Target:
        return Target(
            release=f"{endpoint}--{number}",
            weight_pct=weight_pct,
            http=self.http_address,
            grpc=self.grpc_address,
            shadow=shadow,
            **fields,
        )

    def publish(self, *routes: Route, denied: tuple[str, ...] = (), settle: bool = True) -> None:
        ports = self.settings.ports
        table = RouteTable(
            endpoints=routes,
            jwks=self.jwks,
            issuers=(ISSUER,),
            denied_jti=denied,
            transformer_http=f"127.0.0.1:{ports.transformer_http}",
            transformer_grpc=f"127.0.0.1:{ports.transformer_grpc}",
            default_key=SecretStr(DEFAULTS_KEY),
            infer_keys=infer_keys(self.settings, Keys(triton_infer_dev=SecretStr(INFER_KEY))),
        )
        write(table, self.settings.xds, self.envoy_ready.removesuffix("/ready"))
        if settle:
            time.sleep(0.3)

    def route(self, name: str, *targets: Target, **fields: Any) -> Route:
        return Route(name=name, group="data-science", tier="dev", releases=targets, **fields)

    @property
    def transformer_ready(self) -> str:
        return f"http://127.0.0.1:{self.settings.ports.transformer_http}/healthz"

    def logged(self, endpoint: str, caller: str) -> list[dict[str, Any]]:
        """The caller's rows of the prediction log, newest first."""
        rows = read(self.settings.folder("gateway") / FOLDER, endpoint, 1000)
        return [row for row in rows if row["caller"] == caller]

    def infer(
        self, endpoint: str, x: float = 1.0, *, headers: dict[str, str] | None = None, **more: str
    ) -> httpx.Response:
        body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [x]}]}
        sent = (self.headers() if headers is None else headers) | more
        url = f"{self.url}/v2/models/{endpoint}/infer"
        return self.http.post(url, json=body, headers=sent)

    http = httpx.Client(timeout=10, trust_env=False)
