"""Sending: one event to one target, over HTTPS with a signature, or through apprise.

Webhooks follow Standard Webhooks (https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp`
and `webhook-signature`, which is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import ssl
from datetime import datetime

import httpx

from themisto_hub.control.outbox.event import Event
from themisto_hub.control.outbox.target import Target, addresses

__all__ = ["NotSent", "send"]

_TIMEOUT_S = 10.0
_GONE = 410
_SEVERITY = {"failed": "failure", "breached": "failure", "refused": "warning", "rolled_back": "warning",
             "waiting": "warning", "paused": "warning"}  # fmt: skip


class NotSent(Exception):
    """It was not accepted; the reason holds no address. `final`: trying again changes nothing."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


def send(target: Target, event: Event, now: datetime) -> None:
    """Deliver within some seconds. Raises NotSent."""
    if target.is_webhook:
        _post(target, event, now)
    else:
        _notify(target, event)


def _post(target: Target, event: Event, now: datetime) -> None:
    body = event.model_dump_json().encode()
    timestamp = str(int(now.timestamp()))
    signature = hmac.new(target.signing_key, f"{event.id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "content-type": "application/json",
        "user-agent": "themisto",
        "webhook-id": event.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
    status = _status(target, body, headers)
    if not 200 <= status < 300:
        raise NotSent(f"it answered HTTP {status}", final=status == _GONE)


def _status(target: Target, body: bytes, headers: dict[str, str]) -> int:
    """Post to the address that was looked at, whatever the name leads to a moment later; follow nothing."""
    parts = target.parts
    try:
        address = addresses(target)[0]
    except ValueError as error:
        raise NotSent(str(error)) from None
    except OSError:
        raise NotSent("its name is not known") from None
    host = f"[{address}]" if ":" in address else address
    url = parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}", fragment="").geturl()
    extensions = {"sni_hostname": parts.hostname}
    try:
        with (
            httpx.Client(timeout=_TIMEOUT_S, trust_env=False, verify=_trusted()) as client,
            client.stream(
                "POST", url, content=body, headers=headers | {"host": parts.netloc}, extensions=extensions
            ) as answer,
        ):
            return answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise NotSent(f"it cannot be reached: {type(error).__name__}") from None


def _trusted() -> ssl.SSLContext:
    """The house's own authorities where it has some (SSL_CERT_FILE), else those that come with Python's packages."""
    import certifi

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


def _notify(target: Target, event: Event) -> None:
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its lines may hold addresses
    asset = apprise.AppriseAsset(app_id="themisto", app_desc="themisto", async_mode=False, secure_logging=True)
    notifier = apprise.Apprise(asset=asset)
    if not notifier.add(target.url.get_secret_value()):
        raise NotSent("apprise cannot read its address", final=True)
    severity = _SEVERITY.get(event.kind.partition(".")[2], "info")
    try:
        accepted = notifier.notify(
            body=event.text, title=event.title, notify_type=apprise.NotifyType(severity), body_format="text"
        )
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything, with the address in it
        raise NotSent(f"apprise failed: {type(error).__name__}") from None
    if not accepted:
        raise NotSent("it was not accepted")
