"""A control plane, the transformer as a process of its own, and a kernel's way to both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx
import pytest
import uvicorn
from botocore.exceptions import ClientError
from pydantic import SecretStr
from tests.fakes.hub_identity import HubIdentity
from tests.fakes.s3 import S3
from tests.integration.features.cassandra.node import CassandraNode
from tests.integration.features.late import RELEASE, ROWS, SIGNATURE, model

import themisto
from themisto.client import ControlPlane, Discovery, GatewayAddress
from themisto.features.service import Features
from themisto.serving.models import ServingConfig
from themisto.settings import Settings
from themisto_hub.control.app import create_app
from themisto_hub.control.context import Control
from themisto_hub.control.features import worker
from themisto_hub.control.hub import HubClient
from themisto_hub.gateway.feature_table import FeatureRelease, FeatureTable, write_table
from themisto_hub.model_server.client import TritonClient
from themisto_hub.model_server.repository import files, model_config
from themisto_hub.settings import Deployment, Keys

SCOPES = [f"custom:themisto:{s}" for s in ("features:read", "features:write", "infer")]
KEY = "key-of-the-worker"
INFER_KEY = "key-of-the-inference-api"


class Bench:
    """Everything of one module's tests; in a `with` both run, and end with it however far they came."""

    def __init__(self, state: Path, port: int, **settings: str) -> None:
        self.state = state
        (state / "control").mkdir(mode=0o700)
        self.hub = HubIdentity().start()
        self.settings = Deployment(state=state, port=port, **settings)
        self.s3: S3 | None = None
        self.keys = Keys(features=SecretStr(KEY), triton_infer_dev=SecretStr(INFER_KEY))
        self.control: Control
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.transformer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start_control()
            self.start_transformer()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.stop_transformer()
        self.stop_control()
        self.hub.stop()

    def start_control(self) -> None:
        self.control = Control(self.settings, self.keys, hub=HubClient(self.hub.api_url, ""))
        app = create_app(self.control, workers=(worker.run,))
        config = uvicorn.Config(app, host="127.0.0.1", port=self.settings.ports.control, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "the control plane")

    def stop_control(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)

    def start_transformer(self) -> None:
        environment = os.environ | {
            "THEMISTO_STATE": str(self.state),
            "THEMISTO_PORT": str(self.settings.port),
            "THEMISTO_KEY_FEATURES": KEY,
            "THEMISTO_KEY_TRITON_INFER_DEV": INFER_KEY,
        }
        if self.settings.online_store:
            environment["THEMISTO_ONLINE_STORE"] = self.settings.online_store
        command = "import sys; from themisto_hub.gateway.transformer import main; sys.exit(main())"
        self.transformer = subprocess.Popen([sys.executable, "-c", command], env=environment, start_new_session=True)
        wait_until(lambda: answers(f"{self.url}/healthz"), "the transformer")

    def stop_transformer(self, number: int = signal.SIGTERM) -> None:
        if self.transformer is not None:
            os.killpg(self.transformer.pid, number)
            self.transformer.wait(30)

    def stored(self, group: str, view: str) -> Path:
        """A folder with the files of a view, as the offline store has them."""
        if self.s3 is None:
            return self.control.features.rows.folder(group, view)
        folder, prefix = Path(tempfile.mkdtemp(dir=self.state)), f"of/views/{group}/{view}/"
        for key in self.s3.keys("rows", prefix):
            file = folder / key.removeprefix(prefix)
            file.parent.mkdir(exist_ok=True)
            with suppress(ClientError):  # removed since it was listed
                self.s3.client.download_file("rows", key, str(file))
        return folder

    @property
    def url(self) -> str:
        """The transformer, as Envoy reaches it."""
        return f"http://127.0.0.1:{self.settings.ports.transformer_http}"

    def plane(
        self, name: str, groups: list[str], scopes: list[str] | None = None, group: str | None = None
    ) -> ControlPlane:
        """The control plane as the kernel of a person has it; the transformer stands for the gateway."""
        token = self.hub.add(name, groups, scopes=SCOPES if scopes is None else scopes)
        url = f"http://127.0.0.1:{self.settings.ports.control}/services/themisto"
        plane = ControlPlane(
            Settings(url=url, token=SecretStr(token), group=group or groups[0], home=self.state / name)
        )
        plane.__dict__["discovery"] = Discovery(
            version="0",
            gateway=GatewayAddress(http=self.url, grpc=f"127.0.0.1:{self.settings.ports.transformer_grpc}"),
            tracking="",
            review="",
            isolation="none",
            demo=True,
        )
        return plane

    def features(self, name: str, groups: list[str], scopes: list[str] | None = None) -> Features:
        plane = self.plane(name, groups, scopes)
        return Features(plane._settings, plane)


@pytest.fixture(scope="package")
def cassandra_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Cassandra of this package's tests, or the one that was named."""
    pytest.importorskip("cassandra")
    given = os.environ.get("THEMISTO_TEST_CASSANDRA", "")
    if not given:
        pytest.skip("THEMISTO_TEST_CASSANDRA is not set: a URL, or 'start'")
    if given != "start":
        yield given
        return
    with CassandraNode(tmp_path_factory.mktemp("cassandra")) as url:
        yield url


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, free_base: Callable[[], int]) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("state"), free_base()) as bench:
        yield bench


@pytest.fixture(scope="package")
def s3(free_base: Callable[[], int]) -> Iterator[S3]:
    """An S3 with the bucket `rows`, for whoever has the credentials in this environment."""
    server = S3(free_base()).start()
    server.client.create_bucket(Bucket="rows")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ACCESS_KEY_ID": "key",
            "SECRET_ACCESS_KEY": "secret",
            "EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(f"AWS_{name}", value)
        yield server
    server.stop()


@pytest.fixture(scope="package")
def on_s3(s3: S3, tmp_path_factory: pytest.TempPathFactory, free_base: Callable[[], int]) -> Iterator[Bench]:
    """A bench whose rows are on S3."""
    url = f"s3://rows/of/views?endpoint={s3.url}&timeout_s=60"
    with Bench(tmp_path_factory.mktemp("on-s3"), free_base(), offline_store=url) as bench:
        bench.s3 = s3
        yield bench


@pytest.fixture(params=["folder", "s3"])
def either(request: pytest.FixtureRequest) -> Bench:
    """A bench, wherever its rows are."""
    found: Bench = request.getfixturevalue("on_s3" if request.param == "s3" else "bench")
    return found


def workbench(request: pytest.FixtureRequest) -> Features:
    """What of a parametrised fixture is on a workbench: the features of a group of the test's own."""
    bench = request.getfixturevalue("on_s3" if request.param == "s3" else "bench")
    group = request.node.name.split("[")[0].replace("_", "-")[:40]
    return bench.features(f"of-{group}"[:40], [group])


@pytest.fixture(scope="module")
def triton(bench: Bench) -> Iterator[TritonClient]:
    port = bench.settings.ports.triton["dev"][0]
    environment = os.environ | {
        "THEMISTO_STATE": str(bench.state),
        "THEMISTO_PORT": str(bench.settings.port),
        "THEMISTO_KEY_TRITON_DEV": "load-key",
        "THEMISTO_KEY_TRITON_INFER_DEV": INFER_KEY,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "themisto_hub.model_server", "dev"], env=environment, start_new_session=True
    )
    client = TritonClient(f"http://127.0.0.1:{port}", "load-key", INFER_KEY)
    try:
        wait_until(client.ready, "Triton")
        client.load(RELEASE, model_config(RELEASE, "onnx", SIGNATURE, ServingConfig()), files("onnx", model()))
        yield client
    finally:
        client.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture(scope="module")
def entities(bench: Bench, triton: TritonClient) -> Features:
    """The scientist's features online, and the table that names the release."""
    features = bench.features("scientist", ["data-science"])
    view = themisto.FeatureView(
        "weather", entity=themisto.Entity("airport", keys=["origin"]), at="time_hour", source=ROWS
    )
    features.apply(view, themisto.FeatureService("delay", features=["weather"]))
    features.materialize("weather")
    http, grpc, _ = bench.settings.ports.triton["dev"]
    release = FeatureRelease(
        endpoint="late",
        group="data-science",
        feature_service="delay@1",
        http=f"127.0.0.1:{http}",
        grpc=f"127.0.0.1:{grpc}",
    )
    write_table(FeatureTable(releases={RELEASE: release}), bench.settings.xds)
    return features


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds} s")
        time.sleep(0.05)
