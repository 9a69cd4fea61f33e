"""A real Jupyter server with the extension, and a stand-in for the control plane behind it."""

import pytest
from tests.fakes.control_plane import ControlPlaneStandIn
from tests.jupyter import JupyterServer

SERVER_TOKEN = "hub-token-of-this-server"


@pytest.fixture(scope="module")
def control():
    with ControlPlaneStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def jupyter(control, free_base, tmp_path_factory):
    environment = {"THEMISTO_URL": control.url, "JUPYTERHUB_API_TOKEN": SERVER_TOKEN}
    server = JupyterServer(tmp_path_factory.mktemp("jupyter"), free_base(), environment)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def lonely_jupyter(free_base, tmp_path_factory):
    """A Jupyter server that belongs to no workbench."""
    server = JupyterServer(tmp_path_factory.mktemp("lonely"), free_base(), {})
    yield server
    server.stop()
