"""A job is a server to the hub: up, alive, and nobody's way in."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx

from themisto.schedules.presence import Presence


def test_it_answers_at_its_prefix_refuses_the_rest_and_tells_that_it_is_alive(free_base: Any) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    heard = threading.Event()

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(
                (self.headers["Authorization"], json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            )
            self.send_response(200)
            self.end_headers()
            heard.set()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    base = free_base()
    hub = HTTPServer(("127.0.0.1", base), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    env = {
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{base + 1}/user/scientist/job-1/",
        "JUPYTERHUB_SERVICE_PREFIX": "/user/scientist/job-1/",
        "JUPYTERHUB_ACTIVITY_URL": f"http://127.0.0.1:{base}/hub/api/users/scientist/activity",
        "JUPYTERHUB_API_TOKEN": "secret",
        "JUPYTERHUB_SERVER_NAME": "job-1",
    }
    here = f"http://127.0.0.1:{base + 1}"
    try:
        with Presence.from_environment(env):
            assert httpx.get(f"{here}/user/scientist/job-1/").status_code == 200
            assert httpx.get(f"{here}/user/scientist/job-1/api").status_code == 200
            assert httpx.get(f"{here}/user/scientist/job-1/api/contents").status_code == 403
            assert httpx.get(f"{here}/../etc/passwd").status_code == 403
            assert httpx.post(f"{here}/user/scientist/job-1/").status_code >= 400
            assert heard.wait(10)
    finally:
        hub.shutdown()
        hub.server_close()
    ((authorization, body),) = told
    assert authorization == "token secret"
    assert set(body["servers"]) == {"job-1"}
