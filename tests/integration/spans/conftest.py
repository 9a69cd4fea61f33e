"""A workbench whose spans go to a collector: control plane, transformer, Envoy, dev's Triton, each a process.

The kernel is one, too: who sends spans has one name for all of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fakes.hub_identity import HubIdentity
from tests.fakes.otlp import Collector, Span
from tests.integration.control_serving.conftest import process, wait_until
from tests.integration.gateway.reading import read

from themisto_hub.gateway.log import FOLDER
from themisto_hub.settings import Deployment

ROOT = Path(__file__).parents[3]
TRITON = Path(os.environ.get("THEMISTO_TRITON", ROOT / ".venvs" / "triton"))
SCOPES = [f"custom:themisto:{s}" for s in ("deploy", "infer", "features:read", "features:write")]
SECRETS = (
    "hub_control",
    "session",
    "operator",
    "triton_dev",
    "triton_prod",
    "triton_infer_dev",
    "features",
    "defaults",
)

PREPARED = """
import json, os
from pathlib import Path
import pandas as pd
from pydantic import SecretStr
import themisto
from themisto.client import ControlPlane
from themisto.features.service import Features
from themisto.serving.service import Serving
from themisto.settings import Settings
from themisto.tracking.service import Tracking

def model():
    import onnx
    from tests.integration.features.late import model
    return onnx.load_from_string(model())

settings = Settings()
control = ControlPlane(settings)
serving = Serving(settings, control, Tracking(settings, None))
rows = pd.DataFrame({
    "origin": ["JFK-of-kim", "LGA-of-lee"], "time_hour": pd.to_datetime(["2013-01-01 10:00"] * 2),
    "temp": [4711.25, 4712.5], "gate": ["gate-of-kim", "gate-of-lee"],
})
full = rows.drop(columns=["origin", "time_hour"]).assign(distance=0.5)
keys = rows[["origin"]].assign(distance=0.5)
said = {}
"""
"""What every notebook of these tests begins with; it ends with what it has put into `said`."""


class House:
    """Processes, the collector they send to, and kernels to ask them from."""

    def __init__(self, state: Path, port: int, collector: Collector) -> None:
        self.state, self.collector = state, collector
        base = Deployment(state=state, port=port)
        self.settings = Deployment(
            state=state,
            port=port,
            public_url=f"http://127.0.0.1:{base.ports.control}",  # no proxy stands before it here
            otel_exporter_otlp_endpoint=collector.url,
        )
        self.environment = {
            **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "SSL_CERT_FILE")},
            "PYTHONPATH": str(ROOT),
            "THEMISTO_STATE": str(state),
            "THEMISTO_PORT": str(port),
            "THEMISTO_PUBLIC_URL": self.settings.public,
            "THEMISTO_PROFILES_DIR": str(ROOT / "profiles"),
            "THEMISTO_TRITON": str(TRITON),
        }
        self.secrets = {f"THEMISTO_KEY_{name.upper()}": f"secret-of-{name}" for name in SECRETS}

    def start(self, running: contextlib.ExitStack) -> None:
        ports, loopback = self.settings.ports, "http://127.0.0.1"
        self.settings.folder("control").mkdir(parents=True, mode=0o700)
        environment = self.environment | self.secrets | {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url}
        for command, url in (
            (["themisto_hub.control"], f"{loopback}:{ports.control}/services/themisto/healthz"),
            (["themisto_hub.gateway", "transformer"], f"{loopback}:{ports.transformer_http}/healthz"),
            (["themisto_hub.model_server", "dev"], f"{loopback}:{ports.triton['dev'][0]}/v2/health/ready"),
            (["themisto_hub.gateway", "envoy"], f"{loopback}:{ports.envoy_admin}/ready"),
            (["themisto_hub.gateway", "log"], None),
        ):
            log = self.state / f"{'-'.join(command)}.log"
            running.enter_context(process([sys.executable, "-m", *command], environment, log))
            if url:
                wait_until(lambda url=url: httpx.get(url).status_code == 200, 60, log.read_text)

    def notebook(self, code: str, **environment: str) -> dict[str, Any]:
        """What a notebook of the scientist's says: it has the variables that her spawner gives it."""
        done = subprocess.run(
            [sys.executable, "-c", f"{PREPARED}\n{code}\nprint(json.dumps(said))"],
            env=self.environment
            | self.settings.span_environment
            | {
                "THEMISTO_URL": self.settings.control_url,
                "THEMISTO_TOKEN": "token-of-scientist",
                "THEMISTO_GROUP": "data-science",
                "THEMISTO_HOME": str(self.state / "home"),
            }
            | environment,
            cwd=self.state,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {"stderr": done.stderr, **json.loads(done.stdout.splitlines()[-1])}

    def recorded(self, ask: Callable[[], str], complete: Callable[[list[Span]], object]) -> list[Span]:
        """The spans of what `ask` asks and says the trace of; asked again where some never come, four times at most.

        The model server's exporter, OpenTelemetry's for C++, drops all that it had for one sending now and then: on a
        machine that was kept busy the spans of 3 requests in 100, with no word in its log. It is the only one.
        """
        for tries_left in reversed(range(4)):
            try:
                return self.collector.wait_for(ask(), complete, 30)
            except AssertionError:
                if not tries_left:
                    raise
        raise AssertionError

    def logged(self, trace: str) -> list[dict[str, Any]]:
        """The prediction log's lines of a trace."""
        rows = read(self.settings.folder("gateway") / FOLDER, "late", 1000)
        return [row for row in rows if row["trace_id"] == trace]


class Tree:
    """The spans of one trace, by who is whose parent."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = spans
        self._by_id = {span.id: span for span in spans}

    def one(self, service: str, name: str) -> Span:
        found = [span for span in self.spans if (span.service, span.name) == (service, name)]
        assert len(found) == 1, (service, name, [(s.service, s.name) for s in self.spans])
        return found[0]

    def way(self, span: Span) -> list[str]:
        """From the root down to the span, as `service: name`."""
        above = self.way(self._by_id[span.parent]) if span.parent else []
        return [*above, f"{span.service}: {span.name}"]


@pytest.fixture(scope="package")
def house(free_base) -> Iterator[House]:
    """With the endpoint `late@1`, which needs features, deployed by a notebook."""
    if not (TRITON / "bin" / "python").exists():
        pytest.skip("the model server is not installed: make setup")
    with tempfile.TemporaryDirectory(prefix="spans-") as folder, contextlib.ExitStack() as running:
        collector = running.enter_context(Collector())
        house = House(Path(folder), free_base(), collector)
        hub = running.enter_context(HubIdentity(house.settings.ports.hub))
        hub.add("scientist", ["data-science"], scopes=SCOPES)
        house.start(running)
        house.notebook(
            """
features = Features(settings, control)
airport = themisto.Entity("airport", keys=["origin"])
features.apply(themisto.FeatureView("weather", entity=airport, at="time_hour", source=rows),
               themisto.FeatureService("delay", features=["weather"]))
features.materialize("weather")
serving.deploy("late", model(), full, features="delay")
"""
        )
        yield house
