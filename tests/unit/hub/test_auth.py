"""Finding an identity provider by its discovery document."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from themisto.errors import Invalid, Unavailable
from themisto_hub.auth import Provider


@pytest.fixture
def provider():
    """A server that answers with `provider.document`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(server.document).encode()
            self.send_response(server.status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.issuer = f"http://127.0.0.1:{server.server_port}/realms/bank"
    server.status = 200
    server.document = {
        "issuer": server.issuer,
        "authorization_endpoint": "https://idp/a",
        "token_endpoint": "https://idp/t",
        "userinfo_endpoint": "https://idp/u",
    }
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_are_taken_from_the_document(provider):
    found = Provider.discover(provider.issuer)
    assert (found.authorize_url, found.token_url, found.userdata_url) == (
        "https://idp/a",
        "https://idp/t",
        "https://idp/u",
    )
    assert found.end_session_url == ""


def test_the_document_of_another_issuer_is_refused(provider):
    provider.document["issuer"] = "https://evil.example.com"
    with pytest.raises(Unavailable, match="another issuer"):
        Provider.discover(provider.issuer, within_s=0)


def test_a_document_without_an_address_is_refused(provider):
    del provider.document["token_endpoint"]
    with pytest.raises(Invalid, match="names no 'token_endpoint'"):
        Provider.discover(provider.issuer)


def test_a_provider_that_is_down_is_named_with_the_setting(provider):
    provider.status = 500
    with pytest.raises(Unavailable, match="Check THEMISTO_OIDC_ISSUER"):
        Provider.discover(provider.issuer, within_s=0)


def test_the_embedded_provider_is_known_without_asking():
    assert Provider.embedded("http://localhost:8011").token_url == "http://localhost:8011/token"
