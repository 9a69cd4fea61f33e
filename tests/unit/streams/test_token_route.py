"""Who is given a stream's token, and what it opens."""

from __future__ import annotations

import jwt
import pytest
from fastapi.testclient import TestClient

from themisto_hub.control.app import PREFIX, create_app
from themisto_hub.control.audit import AuditRow
from themisto_hub.control.context import Control
from themisto_hub.settings import Deployment, Keys
from themisto_hub.streams.models import Stream
from themisto_hub.streams.token import STREAMS_KEY

STREAM = Stream(name="scoring", endpoint="credit.v2", input="in", output="out")
URL = f"{PREFIX}/api/v1/streams/scoring/token"


@pytest.fixture
def control(tmp_path):
    settings = Deployment(state=tmp_path, kafka="127.0.0.1:9092", streams=(STREAM,))
    settings.folder("control").mkdir()
    return Control(settings, Keys(streams="key-of-the-streams"))


@pytest.fixture
def client(control):
    with TestClient(create_app(control, workers=())) as client:
        yield client


def test_token_is_a_machines_for_the_one_endpoint(client, control):
    answer = client.post(URL, headers={STREAMS_KEY: "key-of-the-streams"})
    key = jwt.PyJWKSet.from_dict(control.signer.jwks).keys[0]
    claims = jwt.decode(answer.json()["token"], key, ["RS256"], audience="themisto", issuer=control.signer.issuer)
    assert claims["endpoints"] == ["credit.v2"]
    assert (claims["groups"], claims["scopes"], claims["sub"]) == ([], [], "stream:scoring")
    assert claims["exp"] == answer.json()["expires_at_s"]


@pytest.mark.parametrize("key", ["", "another", "key-of-the-strea\xe9"])
def test_without_the_key_it_is_refused_and_recorded(client, control, key):
    answer = client.post(URL, headers={STREAMS_KEY: key.encode("latin-1")})
    assert answer.status_code == 403
    with control.db.read() as session:
        (event,) = session.query(AuditRow).all()
        assert (event.action, event.outcome) == ("streams.token", "refused")


def test_people_never_reach_it(client):
    headers = {STREAMS_KEY: "key-of-the-streams", "x-forwarded-for": "10.0.0.1"}
    assert client.post(URL, headers=headers).status_code == 404


def test_stream_that_is_not_declared_is_404(client):
    answer = client.post(URL.replace("scoring", "other"), headers={STREAMS_KEY: "key-of-the-streams"})
    assert answer.status_code == 404
    assert "other" in answer.json()["detail"]
