"""What the control plane is told of the groups' model servers before one is asked."""

from __future__ import annotations

import pytest

from themisto.errors import Failed
from themisto_hub.model_server import pool
from themisto_hub.settings import Deployment, Keys


def test_socket_whose_path_is_too_long_is_named_at_once(tmp_path):
    settings = Deployment(state=tmp_path / ("deep" * 25))
    with pytest.raises(Failed, match=r"of 'data-science' cannot be reached.*keep the workbench's state"):
        pool.client(settings, Keys(), "data-science", "dev")
    assert not settings.folder("pool").exists()
