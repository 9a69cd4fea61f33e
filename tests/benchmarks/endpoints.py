"""What an endpoint's requests cost where it is one of fifty."""

from collections.abc import Sequence
from functools import partial

from tests.benchmarks.gateway import Cpu, asks, in_turns, served
from tests.benchmarks.load import Load
from tests.benchmarks.record import Record
from tests.integration.gateway.parts import Gateway, wait_until

from themisto_hub.gateway.routes import Route

_MANY = 50


def run(record: Record) -> None:
    """CPU of Envoy a request, the others only in the route table; `bench` comes last in it."""
    with served(29200) as gateway:
        alone = gateway.route("bench", gateway.target("bench", 1, 95), gateway.target("bench", 2, 5))
        others = [gateway.route(f"other-{n}", gateway.target(f"other-{n}", 1, 100)) for n in range(_MANY - 1)]
        assert gateway.envoy.popen is not None
        for protocol in ("http", "grpc"):
            many, one = Cpu(gateway.envoy.popen.pid), Cpu(gateway.envoy.popen.pid)
            ask = partial(asks(gateway, protocol, 0)[0], 8)
            in_turns(
                partial(_under, gateway, [*others, alone], partial(many.of, ask)),
                partial(_under, gateway, [alone], partial(one.of, ask)),
            )
            record.add(f"endpoints_{_MANY}_{protocol}_cpu_us", "us of CPU", many.us(), one.us(), "one endpoint")


def _under(gateway: Gateway, routes: Sequence[Route], ask: partial[Load]) -> Load:
    """Asked once Envoy has taken these routes."""
    gateway.publish(*routes)
    told = {"themisto-timeout-ms": "50"}
    wait_until(lambda: (gateway.infer("other-0", **told).status_code == 404) == (len(routes) == 1), "the routes")
    return ask()
