"""Serving in front of the real thing: control plane with its reconciler, dev's Triton, Envoy; MLflow in files."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr
from tests.fakes.hub_identity import HubIdentity
from tests.integration.control_serving.conftest import Served, process, wait_until

from themisto.client import ControlPlane
from themisto.serving.service import Serving
from themisto.settings import Settings
from themisto.tracking.service import Tracking
from themisto_hub.control.app import create_app
from themisto_hub.control.context import Control
from themisto_hub.control.hub import HubClient
from themisto_hub.control.serving import worker
from themisto_hub.settings import Deployment, Keys

ROOT = Path(__file__).parents[3]
TRITON = Path(os.environ.get("THEMISTO_TRITON", ROOT / ".venvs" / "triton"))
_SCOPES = [f"custom:themisto:{scope}" for scope in ("deploy", "infer", "features:read")]


@pytest.fixture(scope="package")
def serving(free_base) -> Iterator[Serving]:
    """The scientist's `Serving`."""
    if not (TRITON / "bin" / "python").exists():
        pytest.skip("the model server is not installed: make setup")
    folder = tempfile.TemporaryDirectory(prefix="serving-")  # short for its sockets, and not only root's
    state = Path(folder.name)
    state.chmod(0o755)
    settings = Deployment(
        state=state,
        port=free_base(),
        public_url=None,
        profiles_dir=ROOT / "profiles",
    )
    # The kernel talks to the control plane without the proxy before it: its own port is the public one here.
    settings = settings.model_copy(update={"public_url": f"http://127.0.0.1:{settings.ports.control}"})
    names = ("session", "operator", "triton_dev", "triton_prod", "triton_infer_dev")
    keys = Keys(**{name: SecretStr(f"secret-of-{name}") for name in names})
    with folder, contextlib.ExitStack() as running:
        hub = running.enter_context(HubIdentity(settings.ports.hub))
        token = hub.add("scientist", ["data-science"], scopes=_SCOPES)
        settings.folder("control").mkdir(parents=True, mode=0o700)
        control = Control(settings, keys, hub=HubClient(hub.api_url, "token-of-control"))
        running.callback(control.close)
        control.db.migrate()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "THEMISTO_STATE": str(state),
            "THEMISTO_PORT": str(settings.port),
            "THEMISTO_TRITON": str(TRITON),
            "THEMISTO_KEY_TRITON_DEV": "secret-of-triton_dev",
            "THEMISTO_KEY_TRITON_PROD": "secret-of-triton_prod",
            "THEMISTO_KEY_TRITON_INFER_DEV": "secret-of-triton_infer_dev",
            "THEMISTO_GATEWAY_CALLER_PER_S": "100000",
        }
        served = Served(create_app(control, workers=(worker.run,)), "127.0.0.1", settings.ports.control)
        running.callback(served.stop)
        ports = settings.ports
        for command, url in (
            (["themisto_hub.model_server", "dev"], f"http://127.0.0.1:{ports.triton['dev'][0]}/v2/health/ready"),
            (["themisto_hub.gateway", "envoy"], f"http://127.0.0.1:{ports.envoy_admin}/ready"),
        ):
            log = state / f"{command[0]}.log"
            running.enter_context(process([sys.executable, "-m", *command], environment, log))
            wait_until(lambda url=url: httpx.get(url).status_code == 200, 60, log.read_text)
        pool = [sys.executable, "-m", "themisto_hub.model_server", "pool"]
        packing = {k: v for k, v in os.environ.items() if k == "SSL_CERT_FILE" or k.startswith("UV_")}
        running.enter_context(process(pool, environment | packing, state / "pool.log"))
        kernel = Settings(
            url=f"http://127.0.0.1:{ports.control}/services/themisto", token=token, home=state / "home", timeout_s=20
        )
        client = running.enter_context(ControlPlane(kernel))
        yield Serving(kernel, client, Tracking(kernel, None))


@pytest.fixture(scope="package")
def frame():
    """Text, integers, floats, and some missing values."""
    rng = np.random.default_rng(7)
    rows = 500
    frame = pd.DataFrame(
        {
            "carrier": rng.choice(["AA", "DL", "UÄ"], rows),
            "hour": rng.integers(0, 24, rows),
            "dist": rng.normal(1000, 300, rows),
            "temp": rng.normal(size=rows).astype("float32"),
        }
    )
    return frame.assign(temp=frame.temp.where(frame.index % 9 > 0))


@pytest.fixture(scope="package")
def late(frame):
    return ((frame.hour / 24 + frame.dist / 2000 + (frame.carrier == "AA")) > 1.3).astype(int)
