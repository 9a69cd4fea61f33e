"""When a token is asked for, and what becomes of requests while there is none."""

from __future__ import annotations

import json
import time

import pytest
from pydantic import SecretStr

from themisto.errors import Refused, Unavailable
from themisto_hub.streams.token import Token


def answer(name, left_s):
    return 200, json.dumps({"token": name, "expires_at_s": time.time() + left_s}).encode(), {}


@pytest.fixture
def token(told):
    return Token(told.url, "credit", SecretStr("key-of-the-streams"))


def test_token_is_asked_for_once_and_kept(told, token):
    told.script = [answer("one", 600)]
    assert [token.get(), token.get()] == ["one", "one"]
    (asked,) = told.asked
    assert asked["path"] == "/api/v1/streams/credit/token"
    assert asked["x-streams-key"] == "key-of-the-streams"


def test_token_that_soon_ends_is_used_while_no_other_can_be_had(told, token):
    told.script = [answer("one", 60), (503, b"", {})]
    assert [token.get(), token.get(), token.get()] == ["one", "one", "one"]


@pytest.mark.parametrize(("status", "error"), [(503, Unavailable), (403, Refused), (404, Refused)])
def test_control_plane_is_not_asked_by_every_request_that_waits(told, token, status, error):
    told.script = [(status, b"", {})]
    for _ in range(20):
        with pytest.raises(error, match=str(status)):
            token.get()
    assert len(told.asked) == 1


def test_only_the_token_that_was_not_taken_is_forgotten(told, token):
    told.script = [answer("one", 600)]
    token.get()
    token.forget("an older one")
    assert token.get() == "one"
    token.forget("one")
    with pytest.raises(Unavailable, match="not take"):
        token.get()


def test_nobody_there_is_unavailable(told):
    told.server.server_close()
    with pytest.raises(Unavailable, match="does not answer"):
        Token(told.url, "credit", SecretStr("x")).get()
