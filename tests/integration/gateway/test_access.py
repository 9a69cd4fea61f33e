"""Who may call an endpoint: tokens verified by Envoy itself, with nobody to ask."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tests.integration.gateway.parts import INFER_KEY, Gateway, wait_until
from tests.integration.gateway.reading import read

from themisto_hub.gateway.log import FOLDER
from themisto_hub.model_server.infer_key import INFER_HEADER, INFER_METADATA


def test_member_with_scope_is_answered(credit):
    answer = credit.infer("credit", 1.0)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [2.0]
    assert answer.headers["x-release"] == "credit@1"


def test_no_token_is_401_in_the_protocols_shape(credit):
    answer = credit.infer("credit", headers={})
    assert answer.status_code == 401
    assert answer.json() == {"error": "Jwt is missing"}


@pytest.mark.parametrize(
    "claims",
    [{"groups": ["model-risk"]}, {"scopes": ["features:read"]}, {"groups": []}, {"groups": None}, {"scopes": None}],
)
def test_token_of_another_group_or_scope_is_403(credit, claims):
    answer = credit.infer("credit", headers=credit.headers(**claims))
    assert answer.status_code == 403
    assert "may not" in answer.json()["error"]


def test_machine_is_let_in_by_the_endpoints_its_token_lists(credit):
    lists = credit.headers(groups=None, scopes=None, endpoints=["other", "credit"])
    assert credit.infer("credit", headers=lists).status_code == 200
    other = credit.headers(groups=None, scopes=None, endpoints=["other"])
    assert credit.infer("credit", headers=other).status_code == 403


@pytest.mark.parametrize("claims", [{"iss": "https://elsewhere.test"}, {"aud": "hub"}, {"exp": 1000}, {"exp": None}])
def test_token_that_is_not_for_here_is_refused(credit, claims):
    assert credit.infer("credit", headers=credit.headers(**claims)).status_code in (401, 403)


def test_token_in_the_query_is_not_read(credit):
    url = f"{credit.url}/v2/models/credit/infer?access_token={credit.token()}"
    assert credit.http.post(url, json={}).status_code == 401


def test_revoked_token_is_refused_without_a_restart(credit):
    headers = credit.headers(jti="stolen")
    assert credit.infer("credit", headers=headers).status_code == 200
    credit.publish(credit.route("credit", credit.target("credit", 1, 100)), denied=("stolen", "other"))
    assert credit.infer("credit", headers=headers).status_code == 403
    assert credit.infer("credit").status_code == 200


@pytest.mark.parametrize("sub", ["a\rcredit", "a\nb", "a\x00b"])
def test_caller_whose_name_would_break_a_line_of_the_log_is_403(credit, sub):
    assert credit.infer("credit", headers=credit.headers(sub=sub)).status_code == 403


def test_health_is_open_and_other_paths_are_closed(credit):
    assert credit.http.get(f"{credit.url}/v2/health/ready").status_code == 200
    assert credit.http.get(f"{credit.url}/v2").json()["name"] == "themisto"
    for path in ("/v2/repository/index", "/v2/models/credit/trace/setting", "/metrics", "/v2/models/other/infer"):
        assert credit.http.post(f"{credit.url}{path}", json={}).status_code == 401
        assert credit.http.post(f"{credit.url}{path}", json={}, headers=credit.headers()).status_code == 404


def test_release_cannot_be_named_by_the_caller(credit):
    answer = credit.infer("credit", **{"x-release": "credit--2", "x-endpoint": "credit", "x-entity": "1"})
    assert answer.headers["x-release"] == "credit@1"
    assert answer.json()["outputs"][0]["data"] == [2.0]
    assert (
        credit.http.post(f"{credit.url}/v2/models/credit--2/infer", json={}, headers=credit.headers()).status_code
        == 404
    )


def test_admin_pages_that_stop_envoy_are_not_reachable(credit):
    base = credit.envoy_ready.removesuffix("/ready")
    assert credit.http.post(f"{base}/quitquitquit").status_code == 404
    assert credit.http.get(f"{base}/config_dump").status_code == 404
    assert "envoy_cluster" in credit.http.get(f"{base}/stats/prometheus").text


def test_keys_rotate_without_a_restart(credit):
    old = credit.headers()
    before = credit._key
    try:
        from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

        credit._key = generate_private_key(public_exponent=65537, key_size=2048)
        credit.publish(credit.route("credit", credit.target("credit", 1, 100)))
        assert credit.infer("credit", headers=old).status_code == 401
        assert credit.infer("credit").status_code == 200
    finally:
        credit._key = before
        credit.publish(credit.route("credit", credit.target("credit", 1, 100)))
        time.sleep(0.1)


def test_key_of_triton_is_added_by_envoy_and_shown_to_nobody(credit):
    """The caller's own header under its name changes nothing, over HTTP and gRPC, answered or refused."""
    answers = [
        credit.infer("credit", **{INFER_HEADER: "guessed"}),
        credit.infer("credit", headers={}),
        credit.http.post(f"{credit.url}/v2/models/credit/infer", json={}, headers=credit.headers()),
        credit.http.get(f"{credit.url}/v2/models/credit/config", headers=credit.headers()),
    ]
    assert [a.status_code for a in answers] == [200, 401, 400, 200], [a.text for a in answers]
    tensor = tritonclient.grpc.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[1]], np.float32))
    metadata = credit.headers(sub="curious") | {INFER_METADATA: "guessed"}
    with tritonclient.grpc.InferenceServerClient(credit.settings.gateway_grpc) as client:
        answer = client.infer("credit", [tensor], headers=metadata)
    assert answer.as_numpy("y").tolist() == [[2.0]]
    folder = credit.settings.folder("gateway")
    wait_until(lambda: any(r["caller"] == "curious" for r in read(folder / FOLDER, "credit", 1000)), "the log", 15)
    seen = [a.text + str(a.headers) for a in answers] + [str(answer.get_response())]
    seen += [path.read_bytes().decode(errors="replace") for path in credit.state.rglob("*") if readable(path, credit)]
    seen += [str(read(folder / FOLDER, "credit", 1000))]
    assert not [text for text in seen if INFER_KEY in text]


def readable(path: Path, credit: Gateway) -> bool:
    return path.is_file() and not path.is_relative_to(credit.settings.xds)


def test_files_of_routes_are_closed_to_others(credit):
    modes = {path.name: path.stat().st_mode & 0o777 for path in credit.settings.xds.iterdir()}
    assert set(modes.values()) == {0o640}, modes
    assert credit.settings.xds.stat().st_mode & 0o007 == 0
