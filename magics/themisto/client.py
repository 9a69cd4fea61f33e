"""The control plane's API, as a kernel sees it: one HTTP client, where httpx errors become ours."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from themisto import spans
from themisto.errors import Invalid, Unavailable, error_for
from themisto.settings import Settings
from themisto.types import Json, Model

if TYPE_CHECKING:
    import httpx

__all__ = ["ControlPlane", "Discovery", "GatewayAddress", "Unreachable", "map_httpx_errors"]

_NAME = re.compile(r"[A-Za-z0-9_.@-]+")


class GatewayAddress(Model):
    """Where predictions are asked for: Open Inference Protocol over HTTP and gRPC."""

    http: str
    grpc: str


class Discovery(Model):
    """The document at `/.well-known/themisto`: the only thing a kernel must find."""

    version: str
    gateway: GatewayAddress
    tracking: str
    review: str
    isolation: str
    demo: bool


class Unreachable(Unavailable):
    """Nothing of a service answered: whether it has done what was asked is not known. Never sent, only raised here."""


@contextmanager
def map_httpx_errors(what: str) -> Iterator[None]:
    """Turn httpx's transport errors into Unreachable, naming the service."""
    import httpx

    try:
        yield
    except httpx.TimeoutException as error:
        raise Unreachable(f"The {what} did not answer in time.", "Run the same command again in a moment.") from error
    except httpx.TransportError as error:
        raise Unreachable(f"The {what} cannot be reached.", "Run the same command again in a moment.") from error


class ControlPlane:
    """`/services/themisto/api/v1/` with the caller's hub token.

    Every method raises the themisto error that the problem document stands for, or Unreachable.
    """

    def __init__(self, settings: Settings, *, verb: str = "themisto") -> None:
        self.url = settings.require_url(verb)
        self._settings = settings
        self._lock = threading.Lock()
        self._gateway_token: tuple[str, float] | None = None

    @property
    def token(self) -> str:
        if self._settings.token is not None:
            return self._settings.token.get_secret_value()
        return os.environ.get("JUPYTERHUB_API_TOKEN", "")

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        return httpx.Client(
            base_url=self.url,
            timeout=self._settings.timeout_s,
            headers={"User-Agent": "themisto"},
            transport=httpx.HTTPTransport(retries=1),
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        content: Any = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """One call below `/api/v1`; raises for every status of 400 and above, Invalid for a path that leaves it."""
        headers = {"Authorization": f"token {self.token}", **spans.headers()}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        with map_httpx_errors("control plane"):
            response = self._http.request(
                method,
                f"/api/v1/{_plain(path.lstrip('/'))}",
                json=json,
                params=params,
                content=content,
                headers=headers,
                timeout=timeout_s or self._settings.timeout_s,
            )
        if response.status_code >= 400:
            raise _error_in(response)
        return response

    def get(self, path: str, **params: Any) -> Json:
        """The JSON at `path`; parameters that are None are left out."""
        given = {k: v for k, v in params.items() if v is not None}
        return _json_of(self.request("GET", path, params=given))

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        idempotency_key: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Json:
        return _json_of(self.request("POST", path, json=body, idempotency_key=idempotency_key, params=params))

    def put(self, path: str, body: Any = None) -> Json:
        return _json_of(self.request("PUT", path, json=body))

    def delete(self, path: str) -> None:
        self.request("DELETE", path)

    @cached_property
    def discovery(self) -> Discovery:
        """Gateway, tracking server and review page of this workbench."""
        with map_httpx_errors("control plane"):
            response = self._http.get("/.well-known/themisto")
        if response.status_code >= 400:
            raise _error_in(response)
        return Discovery.model_validate(_json_of(response))

    @cached_property
    def whoami(self) -> dict[str, Any]:
        """`{"name", "groups": [...], "scopes": [...]}` of the caller."""
        answer = self.get("whoami")
        assert isinstance(answer, dict)
        return answer

    @property
    def group(self) -> str:
        """The group this kernel acts for: the setting, else the first of the caller's groups."""
        if self._settings.group:
            return self._settings.group
        groups: list[str] = self.whoami["groups"]
        return groups[0] if groups else ""

    def gateway_token(self, *, fresh: bool = False) -> str:
        """A JWT for the gateway, exchanged for the hub's token and kept until a minute before it ends.

        fresh: get another one, whatever is kept: the gateway has just refused it.
        """
        with self._lock:
            if fresh or self._gateway_token is None or self._gateway_token[1] < time.time() + 60:
                answer = self.post("tokens")
                assert isinstance(answer, dict)
                self._gateway_token = (str(answer["token"]), float(str(answer["expires_at_s"])))
            return self._gateway_token[0]

    def close(self) -> None:
        if "_http" in self.__dict__:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _json_of(response: httpx.Response) -> Json:
    """The answer's JSON; a page in its place is the proxy's, shown while the control plane is down."""
    try:
        answer: Json = response.json()
    except ValueError:
        raise _down() from None
    return answer


def _down() -> Unreachable:
    return Unreachable("The control plane cannot be reached.", "Run the same command again in a moment.")


def _plain(path: str) -> str:
    """A path of plain names: whatever a person typed as one stays one, and asks for nothing else."""
    for name in path.split("/"):
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise Invalid(f"'{name[:60]}' is no name.", "Names are letters, digits, '_', '-', '.' and '@'.")
    return path


def _error_in(response: httpx.Response) -> Exception:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        # Not ours: the proxy's own page while the control plane is down, or a foreign server.
        if response.status_code in (502, 503, 504):
            return _down()
        problem = {"detail": f"The control plane answered HTTP {response.status_code}."}
    return error_for(response.status_code, problem)
