"""One Envoy and one Triton for all tests of the gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.gateway.parts import Gateway

from themisto_hub.gateway.routes import RouteTable, write


@pytest.fixture(scope="package")
def gateway(tmp_path_factory, free_base) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), free_base())
    write(RouteTable(), gateway.settings.xds)
    try:
        gateway.triton.start(gateway.triton_ready)
        gateway.envoy.start(gateway.envoy_ready)
        gateway.log.start()
        for number in (1, 2):
            gateway.load("credit", number)
        yield gateway
    finally:
        for process in (gateway.log, gateway.envoy, gateway.triton):
            process.stop()


@pytest.fixture
def credit(gateway: Gateway) -> Gateway:
    """The endpoint `credit`, all of it at release 1."""
    gateway.publish(gateway.route("credit", gateway.target("credit", 1, 100), gateway.target("credit", 2, 0)))
    return gateway
