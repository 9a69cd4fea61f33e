"""An S3 on this machine: moto behind a port, with faults to order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

__all__ = ["S3", "refusal"]

Fault = Callable[[dict[str, Any]], tuple[str, str] | None]
"""Of a request its answer, status and code, where it is not S3's own; it may take its time."""


def refusal(status: str, code: str, *, of: Iterable[str] = ("HEAD", "GET", "PUT", "POST", "DELETE")) -> Fault:
    """Requests by these methods are answered so."""
    return lambda request: (status, code) if request["REQUEST_METHOD"] in of else None


class S3:
    """Buckets in memory; they outlive `stop` and the next `start`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.fault: Fault | None = None
        self.asked: list[str] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server: Any = None
        logging.getLogger("werkzeug").setLevel(logging.ERROR)

    def start(self) -> S3:
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="operator",
            aws_secret_access_key="of-the-bucket",
        )

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Of all files: what Arrow writes for a folder is none."""
        found = self.client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return [one["Key"] for one in found if not one["Key"].endswith("/")]

    def _answer(self, request: dict[str, Any], start: Any) -> Iterable[bytes]:
        self.asked.append(f"{request['REQUEST_METHOD']} {request['PATH_INFO']}")
        refused = self.fault(request) if self.fault is not None else None
        if refused is None:
            return self._app(request, start)
        status, code = refused
        body = f"<Error><Code>{code}</Code><Message>AKIA-secret</Message></Error>".encode()
        request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [] if request["REQUEST_METHOD"] == "HEAD" else [body]
