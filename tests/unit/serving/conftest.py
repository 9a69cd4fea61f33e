"""Small real models, a sample, and the verb in front of a stand-in of the control plane, with real MLflow in files."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from IPython.testing.globalipapp import start_ipython
from tests.fakes.serving_plane import ServingPlane

from themisto.client import ControlPlane
from themisto.serving.candidate import Candidate
from themisto.serving.exporter import exporter_for
from themisto.serving.parity import Tolerance
from themisto.serving.runner import run
from themisto.serving.service import Serving
from themisto.settings import Settings
from themisto.tracking.service import Tracking

warnings.filterwarnings("ignore", category=UserWarning)


def proved(model, frame, *, native=False):
    """The candidate, after the gate, twice exported with the same bytes, and asked one row alone."""
    exporter = exporter_for(model, native=native)
    candidate = Candidate.exported(exporter, model, frame)
    candidate.prove(Tolerance())
    again = exporter.export(model, candidate.frame)
    assert again.artifact == candidate.export.artifact
    alone = run(candidate.export, {name: array[:1] for name, array in candidate.inputs.items()})
    for column in candidate.export.signature.outputs:
        assert alone[column.name].shape == (1, *column.shape)
    return candidate


def outputs(candidate):
    return {c.name: (c.dtype, c.shape) for c in candidate.export.signature.outputs}


@pytest.fixture(scope="session")
def frame():
    """Four columns: text, int, float, float32."""
    rng = np.random.default_rng(7)
    rows = 2000
    return pd.DataFrame(
        {
            "carrier": rng.choice(["AA", "DL", "UA"], rows),
            "hour": rng.integers(0, 24, rows),
            "dist": rng.normal(1000, 300, rows),
            "temp": rng.normal(size=rows).astype("float32"),
        }
    )


@pytest.fixture(scope="session")
def numbers(frame):
    return frame[["hour", "dist", "temp"]]


@pytest.fixture(scope="session")
def late(frame):
    """A target that the columns explain in part: 0 or 1."""
    rng = np.random.default_rng(8)
    score = frame.hour / 24 + frame.dist / 2000 + (frame.carrier == "AA") + rng.normal(size=len(frame)) * 0.2
    return (score > 1.3).astype(int)


@pytest.fixture(scope="session")
def delay(frame):
    """A target in minutes."""
    return frame.hour * 2.0 + frame.dist / 100


@pytest.fixture(scope="session")
def booster(numbers, late):
    import lightgbm as lgb

    return lgb.LGBMClassifier(n_estimators=20, verbose=-1).fit(numbers, late)


@pytest.fixture(autouse=True)
def _outside_a_repository(tmp_path, monkeypatch):
    """A release records the commit that is checked out: another commit meanwhile would make it another release."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shell():
    """IPython's one shell for tests of lines and cells."""
    return start_ipython()


@pytest.fixture
def plane():
    plane = ServingPlane().start()
    yield plane
    plane.stop()


@pytest.fixture(scope="session")
def mlflow_home(tmp_path_factory):
    """MLflow's files, made once: its database takes seconds."""
    return tmp_path_factory.mktemp("themisto-home")


@pytest.fixture
def settings(plane, mlflow_home):
    return Settings(url=plane.url, token="token", group=None, home=mlflow_home, timeout_s=5)


@pytest.fixture
def tracking(settings):
    return Tracking(settings, None)


@pytest.fixture
def serving(settings, tracking):
    control = ControlPlane(settings)
    yield Serving(settings, control, tracking)
    control.close()
