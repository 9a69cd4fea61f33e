"""What is asked in a notebook is one trace down to the model server, and the answer names it."""

from __future__ import annotations

import httpx
import numpy as np
import tritonclient.grpc as triton_grpc
from tests.integration.features.late import grpc_inputs
from tests.integration.spans.conftest import Tree, wait_until

PREDICT = 'said["trace"] = serving.endpoint("late").predict({frame}).attrs["trace_id"]'
ABOVE = "b7ad6b7169203331"
TOKEN = 'said["token"] = control.gateway_token()'


def answered(spans):
    """The three that send by themselves have sent what ends last: the model server, the gateway, the notebook."""
    return {"InferRequest", "infer", "themisto.predict"} <= {span.name for span in spans}


def entered(spans):
    """The two before the model server have sent what ends last."""
    return {"infer", "themisto.predict"} <= {span.name for span in spans}


def test_a_prediction_is_one_trace_from_the_notebook_to_the_model(house):
    tree = Tree(house.recorded(lambda: house.notebook(PREDICT.format(frame="full"))["trace"], answered))
    assert tree.way(tree.one("triton-dev", "compute")) == [
        "notebook: themisto.predict",
        "gateway: infer",
        "gateway: ask late--1.http",
        "triton-dev: InferRequest",
        "triton-dev: late--1",
        "triton-dev: compute",
    ]


def test_features_that_the_gateway_reads_are_in_it(house):
    both = {"features.read", "features.infer"}
    spans = house.recorded(
        lambda: house.notebook(PREDICT.format(frame="keys"))["trace"],
        lambda s: answered(s) and both <= {one.name for one in s},
    )
    tree = Tree(spans)
    transformer = [
        "notebook: themisto.predict",
        "gateway: infer",
        "gateway: ask late--1.entity.http",
        "features: features.infer",
    ]
    assert tree.way(tree.one("features", "features.read")) == [*transformer, "features: features.read"]
    assert tree.way(tree.one("triton-dev", "InferRequest")) == [*transformer, "triton-dev: InferRequest"]
    read = tree.one("features", "features.read")
    assert read.attributes == {"themisto.feature_service": "delay@1", "themisto.rows": 2}


def test_grpc_is_traced_as_http_is(house):
    token = house.notebook(TOKEN)["token"]

    def ask():
        own = np.random.default_rng().bytes(16).hex()
        by_grpc(house, token, f"00-{own}-{ABOVE}-01", ["JFK-of-kim"])
        return own

    way = {"InferRequest", "infer", "features.infer", "ask late--1.entity.grpc"}
    spans = house.recorded(ask, lambda s: way <= {one.name for one in s})
    tree = Tree(spans)
    assert tree.one("gateway", "infer").parent == ABOVE
    by_id = {span.id: span for span in spans}
    request = tree.one("triton-dev", "InferRequest")
    assert by_id[request.parent].name == "features.infer"
    assert by_id[by_id[request.parent].parent].name == "ask late--1.entity.grpc"


def test_the_gateways_span_says_which_release_answered(house):
    trace = house.notebook(PREDICT.format(frame="full"))["trace"]
    span = Tree(house.collector.wait_for(trace, entered)).one("gateway", "infer")
    told = {k: v for k, v in span.attributes.items() if k.startswith("themisto.")}
    assert told == {"themisto.endpoint": "late", "themisto.release": "late@1"}
    assert span.attributes["http.status_code"] == "200"


def test_the_prediction_log_knows_the_trace_and_the_span_the_request(house):
    trace = house.notebook(PREDICT.format(frame="full"))["trace"]
    wait_until(lambda: house.logged(trace), 60, "the log's line")
    (line,) = house.logged(trace)
    span = Tree(house.collector.wait_for(trace, entered)).one("gateway", "infer")
    assert span.attributes["guid:x-request-id"] == line["request_id"]


def test_a_caller_without_a_trace_is_told_the_one_that_began_at_the_gateway(house):
    token = house.notebook(TOKEN)["token"]
    answer = httpx.get(
        f"{house.settings.gateway_http}/v2/models/late", headers={"authorization": f"Bearer {token}"}, trust_env=False
    )
    trace = answer.headers["x-trace-id"]
    spans = house.collector.wait_for(trace, lambda s: "infer" in {one.name for one in s})
    assert [one.parent for one in spans if one.name == "infer"] == [""]


def test_what_the_caller_does_not_record_nobody_records(house):
    token = house.notebook(TOKEN)["token"]
    quiet = np.random.default_rng(3).bytes(16).hex()
    by_grpc(house, token, f"00-{quiet}-{ABOVE}-00", ["JFK-of-kim"], ["LGA-of-lee"])

    def ask():
        loud = np.random.default_rng().bytes(16).hex()
        by_grpc(house, token, f"00-{loud}-{ABOVE}-01", ["JFK-of-kim"], ["LGA-of-lee"])
        return loud

    # Whoever sends has sent what came later: of the first there is nothing to come.
    sent = ("InferRequest", "infer", "features.infer")
    house.recorded(ask, lambda s: all([one.name for one in s].count(name) == 2 for name in sent))
    assert house.collector.of(quiet) == []


def by_grpc(house, token, traceparent, *frames):
    headers = {"authorization": f"Bearer {token}", "traceparent": traceparent}
    for frame in frames:
        with triton_grpc.InferenceServerClient(house.settings.gateway_grpc) as client:
            client.infer("late", grpc_inputs(frame), headers=headers)


def test_a_deploy_is_one_trace_with_the_steps_of_its_rollout(house):
    said = house.notebook(
        """
from themisto.spans import span
with span("cell") as cell:
    serving.deploy("later", model(), full)
    said["trace"] = cell.context[0]
"""
    )
    steps = {"rollout.load", "rollout.golden", "rollout.warm-up"}
    spans = house.collector.wait_for(said["trace"], lambda s: steps | {"cell"} <= {one.name for one in s})
    tree = Tree(spans)
    deploy = ["notebook: cell", "notebook: themisto.deploy"]
    assert tree.way(tree.one("notebook", "themisto.parity")) == [*deploy, "notebook: themisto.parity"]
    request = "control: POST /endpoints/{name}/releases"
    for step in steps:
        found = tree.one("control", step)
        assert tree.way(found) == [*deploy, "notebook: themisto.release", request, f"control: {step}"]
        assert found.attributes["themisto.release"] == "later@1"
