"""The same Envoy with a router alone: no token, no rights, no log. What any gateway of this kind costs here."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from tests.integration.gateway.parts import wait_until

from themisto_hub.gateway.clusters import UPSTREAM
from themisto_hub.gateway.envoy import binary
from themisto_hub.gateway.messages import typed

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = {"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}


@contextmanager
def bare_envoy(ports: Mapping[str, int], tritons: Mapping[str, str], key: tuple[str, str]) -> Iterator[int]:
    """Its process id. `ports` and `tritons` by kind, http and grpc; requests go on as they are, with that header."""
    listeners = [_listener(kind, port, key) for kind, port in ports.items()]
    clusters = [_cluster(kind, address) for kind, address in tritons.items()]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "envoy.json"
        file.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}))
        command = [binary(), "-c", file, "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
        process = subprocess.Popen(command, cwd=folder, start_new_session=True)
        try:
            wait_until(lambda: _answers(ports["http"], process), "Envoy with a router alone")
            yield process.pid
        finally:
            process.terminate()
            process.wait(15)


def _listener(kind: str, port: int, key: tuple[str, str]) -> dict[str, Any]:
    header = {"header": {"key": key[0], "value": key[1]}}
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": kind}, "request_headers_to_add": [header]}]
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    manager = typed(_MANAGER, stat_prefix=kind, route_config={"virtual_hosts": hosts}, http_filters=[_ROUTER])
    return {
        "name": kind,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _cluster(kind: str, address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    place = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
    protocol: dict[str, Any] = {"http2_protocol_options": {}} if kind == "grpc" else {"http_protocol_options": {}}
    return {
        "name": kind,
        "type": "STATIC",
        "load_assignment": {"cluster_name": kind, "endpoints": [{"lb_endpoints": [place]}]},
        "typed_extension_protocol_options": {UPSTREAM: typed(UPSTREAM, explicit_http_config=protocol)},
    }


def _answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "it ended"
    try:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=1, trust_env=False)
    except httpx.TransportError:
        return False
    return True
