"""`python -m themisto_hub.gateway transformer`: the owner of the online store: feature reads, predictions by key.

It goes on with what it has read when the control plane is dead.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop

from themisto import spans
from themisto.features.online import open_store
from themisto_hub.gateway.bootstrap import GatewaySettings
from themisto_hub.gateway.default_answers import DefaultAnswers
from themisto_hub.gateway.feature_api import FeatureApi
from themisto_hub.gateway.feature_book import BOOK, FeatureBook
from themisto_hub.gateway.feature_callers import Callers, Trusted
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_grpc import create_server
from themisto_hub.gateway.feature_http import create_app
from themisto_hub.gateway.feature_lookup import Lookup
from themisto_hub.gateway.feature_read_grpc import add_reads
from themisto_hub.gateway.feature_read_http import read_route
from themisto_hub.gateway.feature_reads import FeatureReads
from themisto_hub.gateway.feature_table import TABLE, FeatureTable
from themisto_hub.gateway.feature_tritons import Tritons
from themisto_hub.model_server.infer_key import infer_keys
from themisto_hub.settings import Deployment, Keys

__all__ = ["main", "serve", "settled"]

_WATCH_S = 0.25


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings, keys = Deployment(), Keys()
    spans.start("features", settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_stopped(settings, keys))
    return 0


async def _until_stopped(settings: Deployment, keys: Keys) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, keys, stop)


async def serve(settings: Deployment, keys: Keys, stop: asyncio.Event) -> None:
    """Answer on the transformer's two ports until `stop` is set."""
    book = Watched(settings.xds / BOOK, FeatureBook.model_validate_json, FeatureBook(jwks={}, issuers=()))
    table = Watched(settings.xds / TABLE, FeatureTable.model_validate_json, FeatureTable())
    callers = Callers(denied=lambda: table.value.denied_jti)
    callers.use(_trusted(book.value, table.value))
    limits = GatewaySettings()
    deadline_s = limits.feature_deadline_ms / 1000
    reads = FeatureReads(open_store(settings.online_store_url), book, deadline_s)
    api = FeatureApi(reads, deadline_s)
    await asyncio.to_thread(reads.warm)
    key = keys.features.get_secret_value() if keys.features else ""
    triton_keys = infer_keys(settings, keys)
    async with Tritons(triton_keys) as tritons:
        lookup = Lookup(reads, table, tritons)
        defaults = DefaultAnswers(table, keys.defaults.get_secret_value() if keys.defaults else "")
        grpc = create_server(callers, lookup, defaults, f"127.0.0.1:{settings.ports.transformer_grpc}", triton_keys)
        add_reads(grpc, api, callers, limits.max_body_bytes)
        read_api = read_route(api, callers, limits.max_body_bytes)
        config = uvicorn.Config(
            create_app(reads, callers, lookup, tritons, defaults, read_api=read_api, key=key),
            host="127.0.0.1",
            port=settings.ports.transformer_http,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        server = _Server(config)
        await grpc.start()
        watching = asyncio.create_task(_watch(book, table, callers))
        serving = asyncio.create_task(server.serve())
        with settled():
            await asyncio.wait([serving, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await asyncio.gather(serving, grpc.stop(3))
        watching.cancel()
    reads.close()


@contextmanager
def settled() -> Iterator[None]:
    """What was made until now is there to stay: the garbage collector does not look through it again.

    It did once in some ten thousand reads, and nobody was answered meanwhile, for 60 to 90 ms.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _watch(book: Watched[FeatureBook], table: Watched[FeatureTable], callers: Callers) -> None:
    """Look at the files four times a second; a rename is all that ever happens to them."""
    used = _trusted(book.value, table.value)
    while True:
        await asyncio.sleep(_WATCH_S)
        table.refresh()
        book.refresh()
        now = _trusted(book.value, table.value)
        if now != used:
            used = now
            callers.use(now)


def _trusted(book: FeatureBook, table: FeatureTable) -> list[Trusted]:
    """The control plane, and whoever else the route table trusts; of one issuer the last word counts."""
    return [*(Trusted(issuer=i, jwks=book.jwks, audience=book.audience) for i in book.issuers), *table.issuers]


class _Server(uvicorn.Server):
    """Leaves signals to `main`, which stops both servers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
