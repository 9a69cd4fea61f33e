"""Envoy's tracing: not a word of it by default, and what Envoy itself takes where a collector is named."""

from __future__ import annotations

import json

import pytest

from themisto_hub.gateway.bootstrap import GatewaySettings, bootstrap
from themisto_hub.gateway.envoy import prepare
from themisto_hub.gateway.routes import RouteTable, write
from themisto_hub.gateway.tracing import tracing
from themisto_hub.model_server.server import Server, trace_flags
from themisto_hub.settings import Deployment

URL = "http://127.0.0.1:4318"


def deployment(folder, **settings: object) -> Deployment:
    return Deployment(state=folder, otel_exporter_otlp_endpoint=settings.pop("url", URL), **settings)


def test_by_default_the_bootstrap_has_nothing_of_it(tmp_path):
    text = json.dumps(bootstrap(Deployment(state=tmp_path), GatewaySettings()))
    assert "opentelemetry" not in text
    assert "collector" not in text
    assert "%TRACE_ID%" not in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"url": "https://collector.bank.example/otlp"},
        {"otel_traces_sampler": "traceidratio", "otel_traces_sampler_arg": 0.01},
        {"otel_traces_sampler": "parentbased_traceidratio", "otel_traces_sampler_arg": 0.000001},
        {"otel_traces_sampler": "always_off"},
    ],
)
def test_envoy_takes_it(tmp_path, settings):
    made = deployment(tmp_path, **settings)
    write(RouteTable(), made.xds)
    assert prepare(made, GatewaySettings())  # it asks Envoy itself


def test_a_share_is_said_in_millionths(tmp_path):
    made = deployment(tmp_path, otel_traces_sampler="traceidratio", otel_traces_sampler_arg=0.01)
    text = json.dumps(tracing(made, "infer"))
    assert '{"numerator": 10000, "denominator": "MILLION"}' in text
    assert "ParentBased" not in text


def test_who_sends_where(tmp_path):
    (cluster,) = [
        c
        for c in bootstrap(deployment(tmp_path, url="https://c.example"), GatewaySettings())["static_resources"][
            "clusters"
        ]
        if c["name"] == "collector"
    ]
    assert cluster["transport_socket"]["typed_config"]["sni"] == "c.example"
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": "c.example", "port_value": 443}
    assert cluster["wait_for_warm_on_init"] is False, "a name that is not found must not keep the gateway from starting"


def test_triton_has_no_flag_of_it_by_default(tmp_path):
    server = Server(name="dev1", folder=tmp_path, http_port=1, grpc_port=2, metrics_port=3, key="k", python=tmp_path)
    assert trace_flags(server.traces_url, "triton-dev") == []


def test_triton_looks_at_times_and_never_at_tensors():
    flags = trace_flags("http://c:4318/v1/traces", "triton-dev")
    assert "--trace-config=level=TIMESTAMPS" in flags
    assert not [flag for flag in flags if "TENSORS" in flag]
